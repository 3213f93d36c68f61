"""Any parameter file, manifest or trial list works, or is refused in one sentence with its place.

Documents are searched by hypothesis: valid ones with one part replaced, removed or added, or with
any text in the place of some of theirs. The same ones are tried each time (`derandomize`).
"""

from copy import deepcopy
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from test_corpora_trials import GOOD, TABLE
from test_pipeline_params import DOCUMENT
from trees import PLAIN, write_tree

from studylib.corpora.folder import manifest_recordings
from studylib.corpora.recordings import Splits, selected
from studylib.corpora.report import Report
from studylib.corpora.trials import read_trial_list
from studylib.errors import StudyError
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import plan_documents

ROOT = Path(__file__).parent.parent
SHARED = {"derandomize": True, "deadline": None, "database": None}
SHARED |= {"suppress_health_check": [HealthCheck.function_scoped_fixture]}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=4,
)
WHOLE = yaml.safe_load(DOCUMENT)


def places(part, place=()):
    """The keys that lead to each part of a document."""
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def refused(check, file: Path) -> str | None:
    """The one sentence that refuses a document; None if it is accepted."""
    sentence = None
    try:
        check()
    except StudyError as error:
        sentence = str(error)
    assert sentence is None or (str(file) in sentence and "\n" not in sentence)
    return sentence


def spoil(text: str, at: int, length: int, new: str) -> str:
    at %= len(text)
    return text[:at] + new + text[at + length :]


SPOILT = (st.integers(0, 10_000), st.integers(0, 5), st.text(max_size=8))


@settings(max_examples=100, **SHARED)
@given(place=st.sampled_from(list(places(WHOLE))), value=VALUES, how=st.sampled_from("=-+"))
def test_a_parameter_file_with_any_value_works_or_its_key_is_named(tmp_path, place, value, how):
    document, file = deepcopy(WHOLE), tmp_path / "params.yaml"
    part = document
    for key in place[:-1]:
        part = part[key]
    if how == "-":
        del part[place[-1]]
    elif how == "+" and isinstance(part, dict):
        part["added"] = value
    else:
        part[place[-1]] = value
    file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    sentence = refused(lambda: plan_documents(ROOT, read_params(file)), file)
    assert not sentence or " line " in sentence or any(str(key) in sentence for key in place)


@settings(max_examples=100, **SHARED)
@given(*SPOILT)
def test_a_parameter_file_with_any_text_in_it_works_or_is_refused(tmp_path, at, length, new):
    file = tmp_path / "params.yaml"
    file.write_text(spoil(DOCUMENT, at, length, new), encoding="utf-8")
    refused(lambda: plan_documents(ROOT, read_params(file)), file)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("voices"), PLAIN[:4], 0.1)


@settings(max_examples=400, **SHARED)
@given(*SPOILT)
def test_a_manifest_with_any_text_in_it_works_or_is_refused(tree, at, length, new):
    file = tree / "manifest.csv"
    lines = [f"{path},{path[:4]},f,{number}" for number, path in enumerate(PLAIN[:4])]
    text = spoil("\n".join(["path,speaker,sex,id", *lines]), at, length, new)
    file.write_text(text, encoding="utf-8")
    listed = manifest_recordings(file, tree, Report())
    refused(lambda: selected(listed, Splits(), Report()), tree)


@settings(max_examples=400, **SHARED)
@given(*SPOILT)
def test_a_trial_list_with_any_text_in_it_works_or_is_refused(tmp_path, at, length, new):
    file = tmp_path / "list.txt"
    file.write_text(spoil("\n".join([*GOOD, "1 b0 b2"]), at, length, new), encoding="utf-8")
    sentence = refused(lambda: read_trial_list(file, TABLE, Report()), file)
    assert not sentence or "line " in sentence
