"""The explorer: linked maps of several runs with sound, as one HTML page that needs no network.

The pipeline writes the page as a file; JupyterLab shows the same page in a frame.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, DataTable, Div, Select, TableColumn
from bokeh.plotting import figure
from bokeh.resources import INLINE

from studylib.reports.embeddings import NEIGHBOURS, Embeddings, findings, utterance_tables
from studylib.reports.figures.style import COLOURS, run_title

MAPS = ("A", "B", "C")  # side by side
LISTS = [
    ("speakers", "Most confused speakers under A"),
    ("outliers", "Outliers under A"),
    ("differences", "Wrong under A, right under B"),
    ("neighbours", "Neighbours under A of the selected utterance"),
]
HINT = "Tap a point, or click a row: both utterances are heard, and stay here to be heard again."
NO_SOUND = "No sound: the corpus of these results is not under data/. After <code>uv run studylib "
NO_SOUND += "study</code> with the study's file, <code>uv run studylib corpus</code> makes it."
HIDDEN = ["split", "start", "path", "text"]  # columns not shown
SHADES = seaborn.color_palette("viridis", 5).as_hex()  # of numbers, from low to high
MISSING = "#bbbbbb"
TIP = "<b>@id</b><br>own speaker @own{n}{{0.00}}, nearest other @nearest{n} @other{n}{{0.00}}<br>"
POINT = {"size": 8, "line_color": "white", "line_width": 0.5, "fill_color": "colour"}
POINT |= {"hover_line_color": "black", "hover_line_width": 4, "nonselection_fill_alpha": 0.3}
POINT |= {"selection_line_color": "black", "selection_line_width": 2}
# A phone shows the page at its own width.
TEMPLATE = """{% block preamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">{% endblock %}"""
WRAP = {"styles": {"flex-wrap": "wrap"}, "sizing_mode": "stretch_width"}


def explorer_page(
    embeddings: Embeddings, maps: Mapping[str, pd.DataFrame], sounds: Sequence[str], colour_by: str
) -> str:
    """The whole page as HTML.

    Parameters
    ----------
    embeddings : Embeddings
    maps : method -> DataFrame
        From `embedding_map`; the first is shown first.
    sounds : sequence of str
        From `embeddings.sounds`: a data URI an utterance; empty where the corpus is missing.
    colour_by : str
        A column of the utterances.
    """
    utterances = embeddings.utterances.drop(columns=HIDDEN, errors="ignore")
    tables = utterance_tables(embeddings)
    found = findings(embeddings, tables)
    looks = {name: _colours(values) for name, values in utterances.items() if name != "id"}
    texts = utterances.round(3).convert_dtypes().astype("string").fillna("")
    data = texts.to_dict("list") | {"colour": looks[colour_by][0]}
    data |= {"sound": list(sounds)} if sounds else {}
    for place in range(len(MAPS)):  # filled by the script
        data |= dict.fromkeys((f"x{place}", f"y{place}"), np.zeros(len(utterances)))
    points = ColumnDataSource(data, name="points")

    runs = embeddings.runs.assign(untrained=embeddings.runs["loss"].isna())
    runs = runs.sort_values(["untrained", "seed"], kind="stable")
    titles = [(name, _title(run)) for name, run in runs.iterrows()]
    chosen = [
        Select(title=f"{letter}:", value=name, options=titles, width=360)
        for letter, name in zip(MAPS, runs.index, strict=False)
    ]
    figures = [_map(points, place, list(utterances)) for place in range(len(chosen))]
    projection = Select(title="Map", value=next(iter(maps)), options=list(maps), width=120)
    colour = Select(title="Colour by", value=colour_by, options=list(looks), width=180)
    kinds = Select(title="List", value="speakers", options=LISTS, width=360)
    legend, players = Div(), Div(text=HINT if sounds else NO_SOUND, width=360)
    rows = ColumnDataSource({name: [] for name in ("what", "numbers", "first", "second")})
    args = {"points": points, "store": ColumnDataSource(_stored(maps, tables, looks)), "rows": rows}
    args |= {"findings": ColumnDataSource(found), "runs": chosen, "maps": figures, "kinds": kinds}
    args |= {"projection": projection, "colour": colour, "legend": legend, "players": players}
    args |= {"legends": {name: text for name, (_, text) in looks.items()}}
    args |= {"palette": COLOURS, "missing": MISSING}
    args |= {"n_neighbours": NEIGHBOURS, "hint": players.text}
    script = CustomJS(args=args, code=Path(__file__).with_suffix(".js").read_text("utf-8"))
    for widget in (*chosen, projection, colour, kinds):
        widget.js_on_change("value", script)
    for source in (points, rows):
        source.selected.js_on_change("indices", script)
    widths = {"what": 340, "numbers": 430}
    shown = [TableColumn(field=name, title=name, width=width) for name, width in widths.items()]
    plain = {"index_position": None, "header_row": False, "reorderable": False, "height": 290}
    table = DataTable(source=rows, columns=shown, sizing_mode="stretch_width", **plain)
    pairs = [column(*both) for both in zip(chosen, figures, strict=True)]
    lists = column(kinds, table, styles={"flex": "1 1 340px"}, max_width=790)
    document = Document(title="Explorer of embeddings")
    rest = [row(*pairs, **WRAP), row(lists, players, **WRAP)]
    document.add_root(column(row(projection, colour), legend, *rest, sizing_mode="stretch_width"))
    document.js_on_event("document_ready", script)
    return file_html(document, INLINE, template=TEMPLATE)


def frame(page: str, height: int = 960) -> str:
    """A page as a part of a notebook, apart from the notebook's own styles and scripts."""
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<div><iframe srcdoc="{html.escape(page)}" style="{style}"></iframe></div>'


def _map(points: ColumnDataSource, place: int, columns: Sequence[str]):
    """An empty map at one place of the row; the script fills it."""
    facts = "".join(f"{name} @{{{name}}}<br>" for name in columns if name != "id")
    plot = figure(
        name=f"map{place}",
        width=360,
        height=360,
        tools="pan,wheel_zoom,box_select,lasso_select,tap,reset,save",
        active_scroll="wheel_zoom",
        tooltips=TIP.format(n=place) + facts,
        match_aspect=True,
    )
    plot.scatter(f"x{place}", f"y{place}", source=points, **POINT)
    plot.axis.visible = False
    return plot


def _stored(maps: Mapping, tables: Mapping, looks: Mapping) -> dict[str, object]:
    """What the script puts into the maps, by run, method and column."""
    stored = {f"colour/{name}": colours for name, (colours, _) in looks.items()}
    for method, coordinates in maps.items():
        for run, part in coordinates.groupby("run"):
            for axis in ("x", "y"):
                stored[f"{run}/{method}/{axis}"] = part[axis].to_numpy(np.float32)
    for run, table in tables.items():
        small = table.astype({"own": np.float32, "other": np.float32}).add_prefix(f"{run}/")
        stored |= small.items()
    return stored


def _colours(values: pd.Series) -> tuple[list[str], str]:
    """The colour of each utterance, and a legend as HTML.

    The commonest values have a colour each; of many numbers, each fifth of the utterances.
    """
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > len(COLOURS):
        values = pd.qcut(values, len(SHADES), precision=1, duplicates="drop")
        fills = dict(zip(values.cat.categories, SHADES, strict=False))
    else:
        fills = dict(zip(values.value_counts().index, COLOURS, strict=False))
    colours = [fills.get(value, MISSING) for value in values]
    entries = fills | ({"others": MISSING} if MISSING in colours else {})
    dots = (
        f'<span style="color: {colour}">&#9679;</span> {html.escape(str(value))}'
        for value, colour in entries.items()
    )
    return colours, "&emsp;".join(dots)


def _title(run: pd.Series) -> str:
    seed = "" if run["loss"] is None else f", seed {run['seed']}"
    return f"{run_title(run['run'], run['loss'])}{seed} (EER {100 * run['eer']:.2f} %)"
