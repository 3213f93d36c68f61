"""A small grammar of English: plain sentences of about 250 words, different every time."""

import re

import numpy as np

# Alternatives for each {name} of a pattern, separated by commas.
WORDS = {
    "person": (
        "the teacher,my neighbour,a young farmer,the old captain,her brother,our doctor,"
        "the painter,a quiet student,his mother,the baker,a tall stranger,the children,my cousin,"
        "the musician,an honest lawyer,the gardener,their uncle,the engineer,a tired traveller,"
        "the judge"
    ),
    "thing": (
        "the letter,a wooden box,the yellow bicycle,an empty bottle,the kitchen table,a heavy coat,"
        "the morning paper,a silver watch,the broken window,a basket of apples,the garden gate,"
        "a pair of shoes,the blue umbrella,an old photograph,the river boat,a cup of tea,the piano,"
        "a bag of sugar,the red carpet,a strange machine,the yellow curtain,a jar of honey"
    ),
    "did": (
        "carried,painted,found,forgot,repaired,noticed,borrowed,measured,brought,washed,watched,"
        "sold,described,remembered,covered,moved,lost,bought,changed,pushed,dropped,polished,enjoyed"
    ),
    "place": (
        "behind the house,near the station,under the bridge,in the village,across the valley,"
        "beside the church,on the second floor,along the shore,at the market,outside the theatre,"
        "between the hills,inside the garage,over the fence,around the corner,by the fire,"
        "in front of the school,below the tower,through the forest"
    ),
    "time": (
        "yesterday,every Thursday,after lunch,before sunrise,in early spring,at half past eight,"
        "during the storm,last winter,two hours ago,on a cold evening,just before dinner,"
        "as usual,for the third time,in the meantime,without a word,this afternoon"
    ),
    "manner": (
        "slowly,with great care,quite suddenly,rather badly,in silence,with both hands,cheerfully,"
        "as quickly as possible,for no reason,very gently,twice,once again"
    ),
    "join": "and then,but,because,while,so,although,until,before",
    "felt": (
        "was happy,looked worried,felt much better,seemed surprised,became thirsty,was always late,"
        "remained calm,grew impatient,was rarely wrong,kept laughing,went home,fell asleep"
    ),
    "number": (
        "three,five,seven,eleven,fourteen,twenty six,thirty,forty eight,ninety,a hundred,"
        "two thousand,a dozen"
    ),
    "units": "miles,boxes,pounds,weeks,chairs,pages,oranges,windows,visitors,islands,songs,roads",
}

PATTERNS = (
    "{person} {did} {thing} {place} {time}.",
    "{time}, {person} {did} {thing} {manner}.",
    "{person} {felt} {join} {person} {did} {thing}.",
    "there were {number} {units} {place}, {join} {person} {felt}.",
    "{person} {did} {number} {units} {time} {join} {person} {felt}.",
    "{place}, {person} {did} {thing} {join} {person} {did} {number} {units}.",
    "did {person} know that {person} {did} {thing} {place}?",
    "{person} {did} {thing}, {thing} and {thing} {manner}.",
)


def draw_sentence(rng: np.random.Generator) -> str:
    """Draw one sentence of some 8 to 20 words."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    filled = re.sub(r"\{(\w+)\}", lambda found: _word(found[1], rng), pattern)
    return filled[0].upper() + filled[1:]


def _word(name: str, rng: np.random.Generator) -> str:
    words = WORDS[name].split(",")
    return words[rng.integers(len(words))]
