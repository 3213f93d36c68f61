"""Models in a user's hands: embeddings and decisions; calibrated, fine-tuned, published."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import torch.nn.functional as F
from test_cli import assert_one_sentence
from torchaudio.functional import resample
from training_runs import CPU, settings_of, train_run
from training_runs import trained as trained_weights

from studylib.errors import StudyError
from studylib.evaluation.baselines import evaluate_baseline
from studylib.evaluation.run import evaluate
from studylib.evaluation.settings import EvaluateSettings
from studylib.inference import adaptation
from studylib.inference.publishing import publish
from studylib.inference.speaker_model import load_speaker_model, model_file, verify
from studylib.inference.spectrum import add_spectrum
from studylib.inference.waveforms import as_mono, read_waveform, weaknesses
from studylib.models.compact_tdnn_spectrum import SHARE
from studylib.models.embedder import embed, load_model

ROOT = Path(__file__).parent.parent
HOW = EvaluateSettings(trials=["test", "dev"], crops=3, crop_seconds=1.0, resamples=20)
HEAVY = "av dask dvc espeakng_loader filelock matplotlib pandas psutil pyarrow pydantic scipy "
HEAVY += "seaborn sklearn soxr threadpoolctl tqdm typer umap yaml"


@pytest.fixture(scope="module")
def experiment(tiny_corpus, tmp_path_factory):
    """The results of a measured run, with a further test set."""
    folder = tmp_path_factory.mktemp("results")
    settings = settings_of({"name": "aam_softmax", "margin": 0.1, "scale": 15}, crops=240)
    train_run(settings, tiny_corpus, folder)
    document = settings.model_dump(mode="json") | {"evaluate": HOW.model_dump(mode="json")}
    manifest = {"study": "test", "run": "run", "seed": 0, "settings": document}
    manifest["corpus"] = tiny_corpus.provenance
    file = folder / "model" / "model.safetensors"
    evaluate(file, tiny_corpus, HOW, folder, manifest=manifest)
    evaluate(file, tiny_corpus, HOW, folder / "also" / "people")
    return folder


@pytest.fixture(scope="module")
def published(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "aam_softmax"
    publish(experiment, folder)
    return folder


@pytest.fixture(scope="module")
def recordings(tiny_corpus, tmp_path_factory):
    """The corpus's training utterances as a user's files: 12 speakers of 4."""
    root = tmp_path_factory.mktemp("recordings") / "mine"
    for row, utterance in enumerate(tiny_corpus.utterances.itertuples()):
        if utterance.split == "train":
            path = root / utterance.speaker / f"{row}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tiny_corpus.samples(row), 16_000)
    return root


def two_files(recordings):
    return sorted(recordings.rglob("*.wav"))[:5:4]


def test_a_published_model_embeds_a_file_as_the_evaluation_embeds_the_utterance(
    published, experiment, recordings, tiny_corpus
):
    model, (file, _) = load_speaker_model(published), two_files(recordings)
    row = np.array([int(file.stem)])
    original, _ = load_model(experiment / "model" / "model.safetensors")
    expected = embed(original, tiny_corpus, row, crops=3, crop_seconds=1.0, device=CPU)[0]
    found = model.embed_crops(read_waveform(file)).numpy()
    tolerance = 0.01 * np.abs(expected).max()  # half precision
    np.testing.assert_allclose(found, expected, atol=tolerance)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed_file(file), unit.mean(axis=0), atol=0.01)
    card = (published / "card.md").read_text()
    assert card.startswith("# AAM-softmax")
    for words in ("| `people` |", "12 speakers", "synthetic voices", "'margin': 0.1", "Licence"):
        assert words in card


def test_the_spectrum_adds_its_share_of_the_baselines_cosine_to_the_networks(
    experiment, tiny_corpus, tmp_path
):
    add_spectrum(experiment, tiny_corpus.folder.parent, tmp_path / "both")
    evaluate_baseline("logmel_whitened", tiny_corpus, HOW, tmp_path / "baseline")
    both, network, spectrum = (
        pd.read_parquet(folder / "scores" / "test.parquet")["score"]
        for folder in (tmp_path / "both", experiment, tmp_path / "baseline")
    )
    # tolerance: the baseline computes in 64 bits
    np.testing.assert_allclose(both, (network + SHARE * spectrum) / (1 + SHARE), atol=2e-3)
    publish(tmp_path / "both", tmp_path / "published", tiny_corpus.folder)
    model = load_speaker_model(tmp_path / "published")
    assert model.embedder.name == "compact_tdnn_spectrum"
    # The same trials twice: the calibration of once.
    once = json.loads((tmp_path / "both" / "details.json").read_text())["calibration"]
    assert model.calibration["scale"] == pytest.approx(once["scale"], rel=1e-6)
    assert model.calibration["offset"] == pytest.approx(once["offset"], rel=1e-6)


def test_rate_and_channels_of_a_recording_do_not_change_its_embedding(published, recordings):
    model, waveform = load_speaker_model(published), read_waveform(two_files(recordings)[0])
    for rate in (44_100, 48_000):
        one = resample(waveform, 16_000, rate)
        stereo = torch.stack([1.5 * one, 0.5 * one])
        assert torch.cosine_similarity(model(waveform), model(stereo, rate), dim=0) > 0.99


def test_torch_hub_loads_a_model_with_five_packages_alone(published, recordings, tmp_path):
    shutil.copytree(ROOT / "studylib", tmp_path / "studylib")
    shutil.copytree(published.parent, tmp_path / "pretrained")
    shutil.copy(ROOT / "hubconf.py", tmp_path)
    file = two_files(recordings)[0]
    script = f"""
import sys
for name in {HEAVY.split()!r}:
    sys.modules[name] = None  # importing it fails
import torch
model = torch.hub.load({str(tmp_path)!r}, "aam_softmax", source="local")
print(*model.embed_file({str(file)!r}).tolist())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = torch.tensor([float(x) for x in done.stdout.split()])
    torch.testing.assert_close(found, load_speaker_model(published).embed_file(file))


def test_probability_is_bayes_rule_on_the_calibrated_score(published, recordings):
    model, files = load_speaker_model(published), two_files(recordings)
    found = verify(model, *files, prior=0.2)
    score = float(model.embed_file(files[0]) @ model.embed_file(files[1]))
    assert found["score"] == pytest.approx(score, abs=1e-5)
    calibration = model.calibration
    llr = calibration["scale"] * score + calibration["offset"]
    odds = math.exp(llr) * 0.2 / 0.8
    assert found["probability"] == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert found["same"] == (odds >= 1)
    assert any("calibrated on synthetic voices" in sentence for sentence in found["warnings"])


def test_verify_ends_with_0_for_one_speaker_1_for_two_and_2_for_a_mistake(
    studylib, published, recordings, tmp_path
):
    first, second = map(str, two_files(recordings))
    words = ["verify", "--model", str(published), "--json"]
    same = studylib(*words, first, first, "--prior", "0.999999")
    other = studylib(*words, first, second, "--prior", "0.000001")
    assert (same.returncode, json.loads(same.stdout)["same"]) == (0, True)
    assert (other.returncode, json.loads(other.stdout)["same"]) == (1, False)
    assert_one_sentence(studylib(*words, first, second, "--prior", "1"), "between 0 and 1")
    soundfile.write(tmp_path / "silent.wav", np.zeros(32_000), 16_000)
    assert_one_sentence(studylib(*words, first, str(tmp_path / "silent.wav")), "silent.wav")


def test_a_recording_is_warned_about_for_what_it_lacks_and_for_nothing_else(recordings):
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0.3, 1, 30), 1600) * rng.normal(size=48_000) * 0.1
    good = torch.from_numpy(loud).float()
    assert weaknesses(good) == []
    assert "s of speech" in weaknesses(good[:16_000])[0]
    assert "silence" in weaknesses(torch.cat([good, torch.zeros(64_000)]))[0]
    assert "clipped" in weaknesses((10 * good).clamp(-1, 1))[0]
    assert "narrow band" in weaknesses(as_mono(resample(good, 16_000, 8_000), 8_000))[0]


def test_a_folder_becomes_a_table_unless_one_of_its_files_is_bad(
    studylib, published, recordings, tmp_path
):
    folder = tmp_path / "in"
    shutil.copytree(sorted(recordings.iterdir())[0], folder / "anna")
    (folder / "bad.wav").write_text("no audio")
    words = ["embed", str(folder), "--out", str(tmp_path / "x.parquet"), "--model", str(published)]
    assert_one_sentence(studylib(*words), "bad.wav")
    assert not (tmp_path / "x.parquet").exists()
    (folder / "bad.wav").unlink()
    assert studylib(*words).returncode == 0
    table = pd.read_parquet(tmp_path / "x.parquet")
    expected = load_speaker_model(published).embed_file(folder / table["path"][2])
    assert len(table) == 4
    np.testing.assert_array_equal(table["embedding"][2], expected)


def test_a_list_of_trials_over_a_folder_of_recordings_is_measured(
    studylib, published, recordings, tmp_path
):
    names = [path.relative_to(recordings).as_posix() for path in sorted(recordings.rglob("*.wav"))]
    pairs = [(names[i], names[j]) for i in range(0, 24, 4) for j in (i + 1, i + 4, i + 8)]
    lines = [f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}" for a, b in pairs]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    words = ["evaluate", "--corpus", str(recordings), "--out", str(tmp_path / "out")]
    assert_one_sentence(studylib(*words, "--model", "nothing"), "there is no model nothing")
    assert not (tmp_path / "out.corpus").exists()
    # The published model was trained on these voices, but nothing tells: other population.
    done = studylib(*words, "--trials", str(tmp_path / "list.txt"), "--model", str(published))
    assert done.returncode == 0, done.stderr
    scores = pd.read_parquet(tmp_path / "out" / "scores" / "test.parquet")
    assert len(scores) == len(pairs)
    model = load_speaker_model(published)
    first = model.embed_file(recordings / pairs[0][0]) @ model.embed_file(recordings / pairs[0][1])
    assert scores["score"][0] == pytest.approx(float(first), abs=1e-4)


def test_a_calibration_is_learned_on_half_of_the_speakers_and_travels_with_the_model(
    published, recordings, tmp_path
):
    text = adaptation.calibrate(model_file(published), recordings, tmp_path / "own")
    model = load_speaker_model(tmp_path / "own")
    assert model.calibration["corpus"] == "6 speakers of mine"
    assert "earlier calibration" in text
    work = tmp_path / "own" / "work" / "test"
    utterances, before = pd.read_parquet(work / "utterances.parquet"), load_speaker_model(published)
    of_dev = [recordings / id for id in utterances["id"][utterances["split"] == "dev"]]
    crops = [F.normalize(before.embed_crops(read_waveform(path))) for path in of_dev]
    centre = torch.stack(crops).mean(dim=(0, 1))
    np.testing.assert_allclose(model.centre, centre, atol=1e-4)
    first, second = (before.embed_crops(read_waveform(path)) for path in two_files(recordings))
    moved = [F.normalize(F.normalize(crops) - centre) for crops in (first, second)]
    found = verify(model, *two_files(recordings))
    assert found["score"] == pytest.approx(float((moved[0] @ moved[1].T).mean()), abs=1e-3)
    assert text in (tmp_path / "own" / "card.md").read_text()
    assert not any("synthetic" in sentence for sentence in found["warnings"])


def test_fine_tuning_changes_the_weights_knows_its_speakers_and_is_measured_on_others(
    published, recordings, tmp_path, monkeypatch
):
    monkeypatch.setattr(adaptation, "CROPS_AN_UTTERANCE", 4)
    monkeypatch.chdir(ROOT)
    text = adaptation.finetune(model_file(published), recordings, tmp_path / "tuned")
    assert text.startswith("Trained on 8 speakers. EER on 4 held-out speakers of mine: before ")
    assert "; from scratch " in text
    before, after = (load_model(model_file(f))[0].trunk for f in (published, tmp_path / "tuned"))
    assert not torch.equal(before.fc.weight, after.fc.weight)
    assert torch.equal(before.layers[0].weight, after.layers[0].weight)  # few speakers
    known = json.loads((tmp_path / "tuned" / "known_speakers.json").read_text())
    assert [len(each["train"]) for each in known] == [12, 8]
    with pytest.raises(StudyError, match="knows 8 of the 12 speakers"):
        adaptation.measure(model_file(tmp_path / "tuned"), recordings, "test", tmp_path / "again")


def test_frozen_parts_and_a_warming_up_loss_leave_the_trunk_s_weights_as_they_are(
    tiny_corpus, tmp_path
):
    loss = {"name": "softmax"}
    untrained = trained_weights(settings_of(loss, crops=0), tiny_corpus, tmp_path / "0")
    frozen = settings_of(loss, freeze=["layers.0", "pooling"])
    frozen = trained_weights(frozen, tiny_corpus, tmp_path / "1")
    warm = trained_weights(settings_of(loss, loss_warmup=1.0), tiny_corpus, tmp_path / "2")
    model, _ = load_model(tmp_path / "0" / "model" / "model.safetensors")
    for name, _ in model.trunk.named_parameters():
        kept = name.startswith("layers.0.")
        assert torch.equal(frozen[name], untrained[name]) == kept, name
        assert torch.equal(warm[name], untrained[name])
    with pytest.raises(StudyError, match=r"train\.freeze names layer, but the parts"):
        trained_weights(settings_of(loss, freeze=["layer"]), tiny_corpus, tmp_path / "3")
