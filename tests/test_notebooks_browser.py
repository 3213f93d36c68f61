"""embeddings.ipynb in JupyterLab, in a browser: a selected point is found in every map and heard.

Skipped where Chromium or the package playwright is missing; with both,
`uv run --with playwright pytest tests/test_notebooks_browser.py`.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_study import write_study

from studylib.files.atomic import read_json, write_json

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
SELECTED = "Bokeh.documents[0].get_model_by_name('points').selected.indices"
# The place in the frame of an utterance's point on the first map
PLACE = """row => {
  const points = Bokeh.documents[0].get_model_by_name("points").data
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("map0"))
  const box = view.canvas_view.el.getBoundingClientRect()
  const scale = [view.frame.x_scale, view.frame.y_scale]
  return [box.x + scale[0].compute(points.x0[row]), box.y + scale[1].compute(points.y0[row])]
}"""
SECONDS = 300


@pytest.fixture
def lab(tmp_path, tiny_corpus):
    """A JupyterLab on a made-up study of the tiny corpus; its address."""
    study = write_study(tmp_path, seeds=(0,))
    for path in study.glob("experiment/*/manifest.json"):  # as if they were of the tiny corpus
        write_json(path, read_json(path) | {"corpus": tiny_corpus.provenance})
        table = tiny_corpus.utterances.iloc[:64].assign(split="test")
        table.to_parquet(path.with_name("utterances.parquet"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c").symlink_to(tiny_corpus.folder)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "embeddings.ipynb", tmp_path / "notebooks")
    options = "--allow-root --no-browser --port=0 --IdentityProvider.token=secret"
    command = [sys.executable, "-m", "jupyter", "lab", *options.split()]
    own = {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    log = tmp_path / "lab.log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | own, stdout=file, stderr=file
        ) as server,
    ):
        ends = time.monotonic() + SECONDS
        while not (found := re.search(r"http://127\S+:\d+/lab", log.read_text())):
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.5)
        yield found[0]
        server.terminate()


def test_a_point_selected_in_jupyterlab_is_marked_in_every_map_and_heard(lab, tmp_path):
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 1300})
        page.set_default_timeout(1000 * SECONDS)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else 0)
        page.goto(f"{lab}/tree/notebooks/embeddings.ipynb?token=secret&reset")
        page.get_by_text("(ipykernel) | Idle").wait_for()
        last = page.locator(".jp-CodeCell .jp-InputPrompt").last
        for executed in ("[5]:", "[10]:"):  # all cells, twice in one kernel
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_text("Run All Cells", exact=True).click()
            playwright.expect(last).to_have_text(executed, timeout=1000 * SECONDS)
        explorer = page.locator("iframe").last
        explorer.scroll_into_view_if_needed()
        frame = explorer.element_handle().content_frame()
        frame.wait_for_selector(".slick-row")
        page.wait_for_timeout(1000)
        other = frame.locator(".bk-Figure").nth(1)
        before, edge = other.screenshot(), explorer.bounding_box()
        x, y = frame.evaluate(PLACE, 5)
        page.mouse.click(edge["x"] + x, edge["y"] + y)
        frame.wait_for_function("window.heard?.readyState == 4")
        assert 5 in frame.evaluate(SELECTED)
        page.mouse.move(0, 0)
        page.screenshot(path=tmp_path / "selected.png")
        assert other.screenshot() != before
        browser.close()
    assert errors == []
