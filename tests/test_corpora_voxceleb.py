"""VoxCeleb in miniature, in every layout that users have."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from server import serving
from trees import files_of, voice, write, write_m4a

from studylib.corpora.audio import decode
from studylib.corpora.sources import prepare_corpus
from studylib.corpora.voxceleb import OFFICIAL_LISTS, VOX1_TEST, VOX1_X
from studylib.errors import StudyError

VOX1_META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
    "id10271\tEd_Westwick\tm\tUK\ttest\n"
    "id11199\tUsher_Raymond\tm\tUSA\tdev\n"
    "id11239\tWoody_Harrelson\tm\tUSA\tdev\n"
)
VOX2_META = (
    "\ufeffVoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \n"
    "id00012 ,n000012 ,m ,dev \n"
    "id00015 ,n000015 ,f ,dev \n"
    "id00017 ,n000017 ,m ,test \n"
)
VOX1 = {"dev": ("id10001", "id11199", "id11239"), "test": ("id10270", "id10271")}
VOX2 = {"dev": ("id00012", "id00015"), "test": ("id00017",)}


prepare = partial(prepare_corpus, "voxceleb")
BOTH = {"voxceleb1": "x", "voxceleb2": "y"}
REFUSED = "vox1_e and vox1_h test the speakers of VoxCeleb1's dev"


def names(speaker):
    return [f"{speaker}/{video}/{number:05}" for video in ("aVideo", "bVideo") for number in (1, 2)]


def write_set(folder, speakers):
    for speaker in speakers:
        for name in names(speaker):
            write(folder / f"{name}.wav", voice(name))


def trial_lines(speakers):
    first, *others = files = [names(speaker) for speaker in speakers]
    lines = [f"1 {first[0]}.wav {first[2]}.wav"]
    lines += [f"1 {own[0]}.wav {own[1]}.wav" for own in others]
    lines += [f"0 {own[0]}.wav {next_one[0]}.wav" for own, next_one in pairwise(files)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def meta(tmp_path):
    folder = tmp_path / "meta"
    folder.mkdir()
    (folder / "vox1_meta.csv").write_text(VOX1_META)
    (folder / "vox2_meta.csv").write_text(VOX2_META)
    (folder / "veri_test.txt").write_text(trial_lines(VOX1["test"]))
    (folder / "list_test_hard2.txt").write_text(trial_lines(("id10001", "id10270")))
    return folder


@pytest.fixture
def separate(tmp_path):
    for part in ("dev", "test"):
        write_set(tmp_path / "vox1" / part / "wav", VOX1[part])
        write_set(tmp_path / "vox2" / part / "aac", VOX2[part])
    return {"voxceleb1": tmp_path / "vox1", "voxceleb2": tmp_path / "vox2"}


def splits_of(corpus):
    return {
        split: sorted(rows["speaker"].unique())
        for split, rows in corpus.utterances.groupby("split")
    }


def test_paper_b_trains_on_voxceleb2_and_tests_on_the_original_list(separate, meta, tmp_path):
    corpus = prepare(separate | {"meta": meta}, tmp_path / "out")
    assert splits_of(corpus) == {"train": list(VOX2["dev"]), "test": list(VOX1["test"])}
    table = corpus.utterances
    row = table[table["id"] == "id10270/aVideo/00001.wav"].iloc[0]
    assert (row["session"], row["sex"], row["nationality"]) == ("aVideo", "f", "USA")
    assert table.set_index("id").loc["id00015/bVideo/00002.wav", "sex"] == "f"
    trials = corpus.trials("vox1_o")
    assert trials["target"].tolist() == [True, True, False]
    assert table["id"][trials["second"][0]] == "id10270/bVideo/00001.wav"
    for position, name in enumerate(table["id"]):
        assert np.array_equal(corpus.samples(position), voice(name.removesuffix(".wav")))


@pytest.mark.parametrize("below", ["", "wav"])
def test_merged_trees_give_the_corpus_that_separate_ones_give(separate, meta, tmp_path, below):
    for name, sets in (("voxceleb1", VOX1), ("voxceleb2", VOX2)):
        for speakers in sets.values():
            write_set(tmp_path / name / below, speakers)
    merged = {"voxceleb1": tmp_path / "voxceleb1", "voxceleb2": tmp_path / "voxceleb2"}
    one = prepare(separate | {"meta": meta}, tmp_path / "one")
    other = prepare(merged | {"meta": meta}, tmp_path / "other")
    assert one.utterances.equals(other.utterances)
    assert files_of(tmp_path / "one")["audio.i16"] == files_of(tmp_path / "other")["audio.i16"]
    (meta / "vox2_meta.csv").unlink()
    with pytest.raises(StudyError, match=r"only vox2_meta\.csv in .* tells them apart"):
        prepare(merged | {"meta": meta}, tmp_path / "without")


def test_voxceleb1_x_holds_out_the_41_speakers_of_u_v_and_w(separate, meta, tmp_path):
    assert (len(VOX1_X), len(VOX1_TEST)) == (41, 40)
    settings = separate | {"meta": meta, "train": ["voxceleb1_dev"], "development": "voxceleb1_x"}
    corpus = prepare(settings, tmp_path / "out")
    assert splits_of(corpus) == {
        "train": ["id10001"],
        "dev": ["id11199", "id11239"],
        "test": list(VOX1["test"]),
    }
    assert corpus.trial_lists == ("dev", "vox1_o")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lists": ["vox1_o"]}, "voxceleb1, the folder of VoxCeleb1, is needed"),
        ({"lists": []}, "voxceleb2, the folder of VoxCeleb2, is needed to train on it"),
        ({"lists": ["vox1_x"]}, r"lists\.0"),
        ({"splits": {"test": 3}}, "VoxCeleb has splits of its own"),
        (BOTH | {"lists": ["vox1_e"], "train": ["voxceleb1_dev"]}, REFUSED),
        (BOTH | {"lists": ["vox1_h_cleaned"], "development": "voxceleb1_x"}, REFUSED),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, told):
    with pytest.raises(StudyError, match=told):
        prepare({"meta": tmp_path} | settings, tmp_path / "out")


def test_what_is_not_there_is_named_and_other_folders_are_left_alone(separate, meta, tmp_path):
    write(tmp_path / "vox1" / "test" / "wav" / "old" / "a" / "1.wav", voice("x"))
    settings = separate | {"meta": meta}
    assert splits_of(prepare(settings, tmp_path / "out"))["test"] == list(VOX1["test"])
    with pytest.raises(StudyError, match=r"list_test_all\.txt cannot be read"):
        prepare(settings | {"lists": ["vox1_e"]}, tmp_path / "out")
    with pytest.raises(StudyError, match=r"meta has no folders of speakers \(id10001"):
        prepare(settings | {"voxceleb1": meta}, tmp_path / "out")


def test_m4a_files_get_the_names_of_the_lists(separate, meta, tmp_path):
    for path in sorted((tmp_path / "vox2" / "dev").rglob("*.wav")):
        write_m4a(path.with_suffix(".m4a"), decode(path))
        path.unlink()
    corpus = prepare(separate | {"meta": meta}, tmp_path / "out")
    assert "id00012/aVideo/00001.wav" in set(corpus.utterances["id"])


def test_lists_and_meta_files_are_downloaded_and_counted(separate, tmp_path, monkeypatch):
    files = {
        "vox1_meta.csv": VOX1_META.encode(),
        "vox2_meta.csv": VOX2_META.encode(),
        "veri_test.txt": trial_lines(VOX1["test"]).encode(),
    }
    new = tmp_path / "new"
    with serving(files) as server:
        settings = separate | {"meta": new, "download": True, "base_url": server.url}
        with pytest.raises(StudyError, match=r"not the official list: expected 37,720 trials"):
            prepare(settings, tmp_path / "out")
        assert not (new / "veri_test.txt").exists()
        monkeypatch.setitem(OFFICIAL_LISTS, "vox1_o", ("veri_test.txt", 3, 2))
        corpus = prepare(settings, tmp_path / "out")
    assert len(corpus.trials("vox1_o")) == 3
    assert {path.name for path in new.iterdir()} == set(files)  # and no audio
