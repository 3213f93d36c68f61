"""Does `studylib verify` tell readers apart, and what are its probabilities worth on actors?

Run `python -m benchmarks.verification READERS ACTORS [--model best]` in the project's folder; it
writes benchmarks/verification.md. READERS and ACTORS hold a folder of recordings for each speaker.
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.measuring import options_of, processor
from studylib.inference.adaptation import calibrate
from studylib.inference.speaker_model import SpeakerModel, load_speaker_model, model_file, verify

PAIRS = 200  # half of them of one speaker


def right_answers(model: SpeakerModel, recordings: Path) -> tuple[int, int]:
    """How many of 100 pairs of one speaker, and of 100 pairs of two, are told as what they are.

    The pieces are thirds of a recording; speakers and pieces are drawn with seed 0.
    """
    generator = np.random.default_rng(0)
    files = {path.relative_to(recordings).parts[0]: path for path in recordings.rglob("*.flac")}
    speakers = [files[name] for name in sorted(files)]
    right = {True: 0, False: 0}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):
            same = number < PAIRS // 2
            one, other = generator.choice(len(speakers), 2, replace=False)
            sides = [(one, 0), (one if same else other, 2)]
            pieces = [Path(folder) / f"{side}.wav" for side in range(2)]
            for file, (speaker, third) in zip(pieces, sides, strict=True):
                samples, rate = soundfile.read(speakers[speaker])
                soundfile.write(file, np.array_split(samples, 3)[third], rate)
            right[same] += verify(model, *pieces)["same"] == same
    return right[True], right[False]


def main() -> None:
    options = options_of(__doc__)
    model = load_speaker_model(options.model)
    targets, nontargets = right_answers(model, options.readers)
    with tempfile.TemporaryDirectory() as folder:
        sentence = calibrate(model_file(options.model), options.actors, Path(folder) / "own")
        own = sum(right_answers(load_speaker_model(Path(folder) / "own"), options.readers))
    Path(__file__).with_suffix(".md").write_text(f"""# Verification of real speakers

Made by `python -m benchmarks.verification` on {processor()}, the model
`{options.model}`, calibrated on {model.calibration["corpus"]}.

`studylib verify` at its default prior, on {PAIRS} drawn pairs of pieces (thirds of a recording of
some 14 s): {targets} of {PAIRS // 2} pairs of one reader and {nontargets} of {PAIRS // 2} pairs of
two are told as what they are, {100 * (targets + nontargets) / PAIRS:.1f} % of all.

`studylib calibrate` on ten actors of one room: {sentence}

With that calibration, centre included, {100 * own / PAIRS:.1f} % of the readers' pairs are told as
what they are.
""")


if __name__ == "__main__":
    main()
