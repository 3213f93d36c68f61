"""The explorer: linked maps of several runs with sound, as one HTML page that needs no network.

The pipeline writes the page as a file; JupyterLab shows the same page in a frame.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    DataTable,
    Div,
    RadioButtonGroup,
    Select,
    TableColumn,
)
from bokeh.plotting import figure
from bokeh.resources import INLINE
from matplotlib import colormaps
from matplotlib.colors import to_hex

from studylib.reports.embeddings import Embeddings
from studylib.reports.explorer import NEIGHBOURS, findings, utterance_table
from studylib.reports.figures.style import COLOURS, run_title

MAPS = ("A", "B", "C")  # side by side
TABLES = ("Most confused speakers under A", "Outliers under A", "Wrong under A, right under B")
TABLES += ("Neighbours under A",)
HINT = "Tap a point, or click a row: both utterances are heard, and stay here to be heard again."
NO_SOUND = "No sound: the corpus of these results is not under data/. After <code>uv run studylib "
NO_SOUND += "study</code> with the study's file, <code>uv run studylib corpus</code> makes it."
HIDDEN = {"split", "start", "path", "text"}  # columns not shown
MISSING = "#bbbbbb"
TIP = "<b>@id</b><br>own speaker @own{n}{{0.00}}, nearest other @nearest{n} @other{n}{{0.00}}<br>"
RING = {"size": 15, "line_width": 2, "line_color": "black"}


def explorer_page(
    embeddings: Embeddings,
    maps: Mapping[str, pd.DataFrame],
    *,
    sounds: Sequence[str] = (),
    colour_by: str = "speaker",
) -> str:
    """The whole page as HTML.

    Parameters
    ----------
    embeddings : Embeddings
    maps : method -> DataFrame
        From `embedding_map`; the first is shown first.
    sounds : sequence of str
        From `explorer.sounds`: a data URI an utterance; empty where the corpus is missing.
    colour_by : str
        A column of the utterances.
    """
    utterances, runs = embeddings.utterances, embeddings.runs
    made = utterance_table(embeddings)
    found = findings(embeddings, made)
    worst = found[(found["kind"] == "speakers") & (found["run"] == found["run"].iloc[0])]
    named = utterances["speaker"].iloc[worst[["first", "second"]].to_numpy().ravel()].unique()
    looks = {
        name: _colours(utterances[name], named if name == "speaker" else None)
        for name in utterances
        if name not in HIDDEN | {"id"}
    }
    columns = [name for name in utterances if name not in HIDDEN]
    data = {name: [_text(value) for value in utterances[name]] for name in columns}
    data |= {"colour": looks[colour_by][0]} | ({"sound": list(sounds)} if sounds else {})
    for place in range(len(MAPS)):  # filled by the script
        data |= dict.fromkeys((f"x{place}", f"y{place}"), np.zeros(len(utterances)))
    points = ColumnDataSource(data, name="points")

    titles = {run: _title(runs.loc[run]) for run in embeddings.vectors}
    first = sorted(titles, key=lambda run: runs.loc[run, "loss"] is None)  # trained ones
    chosen = [
        Select(title=f"{letter}:", value=first[place], options=list(titles.items()), width=370)
        for place, letter in zip(range(len(titles)), MAPS, strict=False)
    ]
    figures = [_map(points, place, columns) for place in range(len(chosen))]
    projection = Select(title="Map", value=next(iter(maps)), options=list(maps), width=120)
    colour = Select(title="Colour by", value=colour_by, options=list(looks), width=180)
    kinds = RadioButtonGroup(labels=list(TABLES), active=0)
    legend, players = Div(width=850), Div(text=HINT if sounds else NO_SOUND, width=370)
    rows = ColumnDataSource({name: [] for name in ("what", "numbers", "first", "second")})
    args = {"points": points, "store": ColumnDataSource(_stored(maps, made, looks)), "rows": rows}
    args |= {"findings": ColumnDataSource(found), "runs": chosen, "maps": figures, "kinds": kinds}
    args |= {"projection": projection, "colour": colour, "legend": legend, "players": players}
    args |= {"legends": {name: text for name, (_, text) in looks.items()}}
    args |= {"palette": COLOURS, "missing": MISSING}
    args |= {"columns": columns, "n_neighbours": NEIGHBOURS, "hint": players.text}
    code = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    on = {
        event: CustomJS(args=args | {"event": event}, code=code)
        for event in ("draw", "select", "find", "save")
    }
    for widget in (*chosen, projection, colour):
        widget.js_on_change("value", on["draw"])
    kinds.js_on_change("active", on["draw"])
    points.selected.js_on_change("indices", on["select"])
    rows.selected.js_on_change("indices", on["find"])
    save = Button(label="Save the coordinates (CSV)", width=200)
    save.js_on_event("button_click", on["save"])
    widths = {"what": 360, "numbers": 390}
    shown = [TableColumn(field=name, title=name, width=width) for name, width in widths.items()]
    table = DataTable(
        source=rows,
        columns=shown,
        index_position=None,
        header_row=False,
        reorderable=False,
        width=760,
        height=290,
    )
    pairs = [column(*both) for both in zip(chosen, figures, strict=True)]
    document = Document(title="Explorer of embeddings")
    document.add_root(
        column(
            row(projection, colour, legend),
            row(*pairs),
            row(column(row(kinds, save), table), players),
        )
    )
    document.js_on_event("document_ready", on["draw"])
    return file_html(document, INLINE)


def frame(page: str, height: int = 960) -> str:
    """A page as a part of a notebook, apart from the notebook's own styles and scripts."""
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<div><iframe srcdoc="{html.escape(page)}" style="{style}"></iframe></div>'


def _map(points: ColumnDataSource, place: int, columns: Sequence[str]):
    """An empty map at one place of the row; the script fills it."""
    facts = "".join(f"{name} @{{{name}}}<br>" for name in columns if name != "id")
    plot = figure(
        name=f"map{place}",
        width=385,
        height=385,
        tools="pan,wheel_zoom,box_select,lasso_select,tap,reset,save",
        active_scroll="wheel_zoom",
        tooltips=TIP.format(n=place) + facts,
        match_aspect=True,
    )
    look = {"size": 8, "line_color": "white", "line_width": 0.5, "fill_color": "colour"}
    drawn = plot.scatter(f"x{place}", f"y{place}", source=points, **look)
    drawn.hover_glyph = drawn.glyph.clone(**RING)
    drawn.selection_glyph = drawn.glyph.clone(**RING | {"size": 12})
    drawn.nonselection_glyph = drawn.glyph.clone(fill_alpha=0.3)
    plot.axis.visible = False
    return plot


def _stored(
    maps: Mapping[str, pd.DataFrame],
    made: Mapping[str, Mapping[str, np.ndarray]],
    looks: Mapping[str, tuple[list[str], str]],
) -> dict[str, object]:
    """What the script puts into the maps, by run, method and column."""
    stored = {f"colour/{name}": colours for name, (colours, _) in looks.items()}
    for method, coordinates in maps.items():
        for run, part in coordinates.groupby("run"):
            for axis in ("x", "y"):
                stored[f"{run}/{method}/{axis}"] = part[axis].to_numpy(np.float32)
    for run, table in made.items():
        stored |= {f"{run}/{name}": table[name].astype(np.float32) for name in ("own", "other")}
        stored[f"{run}/nearest"] = table["nearest"].tolist()
        for place, rows in enumerate(table["neighbours"].T):
            stored[f"{run}/neighbour{place}"] = rows.astype(np.int32)
    return stored


def _colours(values: pd.Series, named: Sequence | None) -> tuple[list[str], str]:
    """The colour of each utterance, and a legend as HTML.

    Numbers get a scale; of other values those named, else the commonest, a colour each.
    """
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > len(COLOURS):
        low, high = values.min(), values.max()
        scaled = (values - low) / (high - low)
        colours = [MISSING if np.isnan(v) else to_hex(colormaps["viridis"](v)) for v in scaled]
        entries = {to_hex(colormaps["viridis"](v)): low + v * (high - low) for v in (0, 0.5, 1.0)}
    else:
        named = values.value_counts().index if named is None else named
        fills = dict(zip(named, COLOURS, strict=False))
        colours = [fills.get(value, MISSING) for value in values]
        entries = {colour: value for value, colour in fills.items()}
    entries |= {MISSING: "others"} if MISSING in colours else {}
    dots = (
        f'<span style="color: {colour}">&#9679;</span> {html.escape(_text(value))}'
        for colour, value in entries.items()
    )
    return colours, "&emsp;".join(dots)


def _title(run: pd.Series) -> str:
    seed = "" if run["loss"] is None else f", seed {run['seed']}"
    return f"{run_title(run['run'], run['loss'])}{seed} (EER {100 * run['eer']:.2f} %)"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)
