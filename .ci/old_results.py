"""Lists the committed results that are not of the present plan: `python .ci/old_results.py`.

The exit status is 0: a study is run again when its numbers are wanted, not with each edit.
"""

from pathlib import Path

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.pipeline.params import Params, read_params
from studylib.pipeline.plan import plan_documents

ROOT = Path(__file__).parent.parent


def old_results(root: Path, params: Params) -> list[str]:
    """The experiments and reports of a study that are missing or not of the present plan."""
    results, study = root / "results" / params.study.name, params.study
    runs = {f"{run}-{seed}": f"experiment/{run}" for run in study.runs for seed in study.seeds}
    runs |= {f"{name}-0": f"baseline/{name}" for name in study.baselines}
    documents, planned, old = plan_documents(root, params), {}, []
    for name, plan in runs.items():
        planned[name] = {key: documents[f"{plan}.json"][key] for key in ("training", "evaluation")}
        manifest = results / "experiment" / name / "manifest.json"
        if not manifest.exists() or read_json(manifest)["digests"] != planned[name]:
            old.append(name)
    for manifest in sorted(results.glob("*/manifest.json")):
        made_from = read_json(manifest).get("experiments", {"": ""})  # older reports have none
        if any(planned.get(name) != digests for name, digests in made_from.items()):
            old.append(manifest.parent.name)
    return old


if __name__ == "__main__":
    for file in sorted((ROOT / "studies").glob("*.yaml")):
        study = read_params(file)
        if (ROOT / "results" / study.study.name).exists():
            try:
                old = old_results(ROOT, study)
                print(f"{study.study.name}: {len(old)} old results", *old)
            except StudyError as error:  # initial weights, which git does not hold
                print(f"{study.study.name}: not compared: {error}")
