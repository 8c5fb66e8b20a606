"""Plots of tables: each draws what its table says, shows itself, keeps the user's style, and no text breaks it."""

from __future__ import annotations

import io
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from planted_study import Design, draw

from mixed_signals.analysis import plots
from mixed_signals.analysis.plots.canvas import label
from mixed_signals.analysis.typology import FAMILIES
from mixed_signals.models.intervals import mean_interval
from mixed_signals.store import UsageError

MODALITIES = ("text", "audio", "video")
HOSTILE = ("$x_{1$", "two\nlines\x00\x1b[31m", "long " * 400, "😀 <b>&\"'", "\u202eאבג שלום", "漢字" * 200)


def estimates(rng, rows):
    """Add estimates with intervals to rows."""
    table = pd.DataFrame(rows)
    table["estimate"] = rng.uniform(0.1, 0.6, len(table))
    return table.assign(
        low=table["estimate"] - 0.05, high=table["estimate"] + 0.05, n=200, n_groups=10, method="made up"
    )


def utterances(rng, n=200, modalities=MODALITIES):
    table = pd.DataFrame(
        {
            "head": "gated",
            "utterance_id": [f"u{i}" for i in range(n)],
            "group": [f"g{i % 10}" for i in range(n)],
            "family": rng.choice(FAMILIES, n),
            "label_true": rng.choice(["a", "b"], n),
            "jsd": rng.random(n),
            "vote_entropy": rng.random(n),
        }
    )
    for model in (*modalities, "fusion"):
        table[f"label_{model}"] = rng.choice(["a", "b"], n)
        table[f"p_label_{model}"] = rng.uniform(0.5, 1, n)
        table[f"p_true_{model}"] = rng.random(n)
    for modality in modalities:
        table[f"gate_{modality}"] = rng.random(n)
        table[f"contribution_{modality}"] = rng.normal(size=n)
    return table


def tables(
    modalities=MODALITIES, scores=("confidence", "divergence", "oracle"), channels=("audio", "audio+video")
):
    """One small table for each plot."""
    rng = np.random.default_rng(0)
    pairs = [(m, "fusion") for m in modalities]
    coverage = np.arange(1, 51) / 50
    about = utterances(rng, 300, modalities)
    rates = [
        {"head": "gated", "first": a, "second": b, "measure": m, "quantity": q, "repeats": "seeds"}
        for a, b in pairs
        for m in ("label", "jsd")
        for q in ("rate", "between", "floor", "excess", "chance", "beyond_chance")
    ]
    kinds = [
        ("agree right", "agree right"),
        *((f"follows {m}", "follows") for m in modalities),
        ("harmed", "harmed"),
    ]
    curves = [
        pd.DataFrame(
            {
                "head": "gated",
                "loss": "error",
                "score": s,
                "coverage": coverage,
                "risk": coverage ** (i + 1) / 2,
            }
        )
        for i, s in enumerate(scores)
    ]
    changes = ("gain", "loss", "net", "flips_first", "flips_second", "gain_excess", "loss_excess")
    return {
        "confidence": about,
        "raters": about,
        "gates": about,
        "reliability": about,
        "types": estimates(
            rng, [{"head": "gated", "type": t, "family": f, "count": 9, "chance": 0.2} for t, f in kinds]
        ),
        "floor": estimates(rng, rates),
        "risk_coverage": pd.concat(curves, ignore_index=True),
        "dominance": estimates(
            rng, [{"head": "gated", "modality": m, "measure": k} for m in modalities for k in ("shapley share", "gate")]
        ),
        "thresholds": estimates(
            rng, [{"head": "gated", "threshold": t, "quantity": q} for t in (0.5, 0.7) for q in ("share", "auroc")]
        ),
        "people": estimates(
            rng, [{"channel": c, "tie_rule": r} for c in channels for r in ("ties wrong", "per response")]
        ).assign(votes=100),
        "gains": estimates(
            rng,
            [
                {
                    "first": channels[0], "second": channels[1], "more": True, "label": "", "votes": "halves",
                    "tie_rule": "ties wrong", "quantity": q, "p": 0.5, "test": "",
                }
                for q in changes
            ],
        ),
        "seeds": pd.DataFrame(
            {"model": [f"gated:{m}" for m in modalities], "metric": "accuracy", "n_seeds": 5, "mean": 0.7, "sd": 0.01}
        ),
    }  # fmt: skip


TABLES = tables()
NAMES = list(TABLES)


def drawn(name, table=None, **options):
    return getattr(plots, name)(TABLES[name] if table is None else table, **options)


def svg(figure):
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return ElementTree.fromstring(buffer.getvalue())  # noqa: S314  # matplotlib's own


def words(figure):
    return ["".join(node.itertext()) for node in svg(figure).iter() if node.tag.endswith("}text")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [plots.ONE_COLUMN, plots.TWO_COLUMNS])
def test_every_plot_fits_its_width(name, width):
    figure = drawn(name, width=width)
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[0] == pytest.approx(width)
    assert not figure.data.empty
    assert hasattr(figure, "_repr_png_")
    figure.get_layout_engine().execute(figure)
    inside = figure.bbox.padded(1.0)
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert inside.x0 <= box.x0, name
        assert box.x1 <= inside.x1, name
    for found in figure.legends:
        box = found.get_window_extent()
        assert inside.x0 <= box.x0, name
        assert box.x1 <= inside.x1, name


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_is_named(name):
    source = TABLES[name]
    needed = {
        "confidence": "p_true_fusion", "raters": "group", "gates": "group", "reliability": "label_true",
        "types": "chance",
        "floor": "quantity", "risk_coverage": "coverage", "dominance": "low", "thresholds": "threshold",
        "people": "channel", "gains": "votes", "seeds": "sd",
    }[name]  # fmt: skip
    with pytest.raises(UsageError, match=f"no column {needed}; this plot takes"):
        drawn(name, source.drop(columns=needed))
    with pytest.raises(UsageError, match="no rows"):
        drawn(name, pd.DataFrame())


@pytest.mark.parametrize("name", [n for n in NAMES if "head" in TABLES[n]])
def test_a_table_of_several_heads_asks_to_choose(name):
    both = pd.concat([TABLES[name], TABLES[name].assign(head="logistic")], ignore_index=True)
    with pytest.raises(UsageError, match=r"heads gated, logistic: choose one, head='gated'"):
        drawn(name, both)
    with pytest.raises(UsageError, match="the table has gated, logistic"):
        drawn(name, both, head="none")
    pd.testing.assert_frame_equal(drawn(name, both, head="gated").data, drawn(name).data)


def test_shares_and_intervals_stand_where_the_table_says():
    table = TABLES["types"]
    figure = drawn("types")
    (ax,) = figure.axes
    marks = [
        (100 * row.estimate, 100 * row.low, 100 * row.high, i)
        for i, row in enumerate(table.itertuples(index=False))
    ]
    drawn_marks = []
    for container in ax.containers:
        (x, y), (segments,) = container.lines[0].get_data(), container.lines[2]
        for at, place, segment in zip(x, y, segments.get_segments(), strict=True):
            drawn_marks.append((at, segment[:, 0].min(), segment[:, 0].max(), place))
    np.testing.assert_allclose(sorted(drawn_marks, key=lambda mark: mark[3]), marks)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == table["type"].tolist()


def test_gates_are_means_by_family_over_groups():
    table = TABLES["gates"]
    data = drawn("gates").data
    row = data[
        (data["quantity"] == "gate") & (data["family"] == "follows") & (data["modality"] == "audio")
    ].iloc[0]
    mine = table[table["family"] == "follows"]
    expected = mean_interval(mine["gate_audio"], mine["group"], limits=(0, 1))
    assert row["estimate"] == pytest.approx(mine["gate_audio"].mean())
    assert (row["low"], row["high"], row["n_groups"]) == (expected.low, expected.high, 10)
    assert row["low"] < row["estimate"] < row["high"]
    every = data[(data["family"] == "all utterances") & (data["modality"] == "text")].set_index("quantity")
    assert every.loc["contribution", "estimate"] == pytest.approx(table["contribution_text"].mean())


def test_raters_are_drawn_one_by_one_and_in_fifths():
    table = TABLES["raters"].copy()
    table.loc[:9, "vote_entropy"] = np.nan
    data = drawn("raters", table).data
    assert data["what"].value_counts().to_dict() == {"utterance": 290, "mean of a fifth": 5}
    rated = table.dropna(subset="vote_entropy").sort_values("jsd")
    last = data.iloc[-1]
    assert last["estimate"] == pytest.approx(rated["vote_entropy"].tail(58).mean())
    assert last["models"] == pytest.approx(rated["jsd"].tail(58).mean())
    with pytest.raises(UsageError, match="no ratings"):
        drawn("raters", table.assign(vote_entropy=np.nan))


def test_calibrated_models_are_on_the_diagonal():
    rng = np.random.default_rng(1)
    table = utterances(rng, 4000)
    right = rng.random(len(table)) < table["p_label_text"]
    table["label_text"] = np.where(right, table["label_true"], "none")
    data = drawn("reliability", table).data
    text = data[data["model"] == "text"]
    assert len(text) == 8
    assert text["n"].sum() == len(table)
    np.testing.assert_allclose(text["estimate"], text["p"], atol=0.07)


def test_equal_curves_are_one_line_and_random_is_drawn():
    table = TABLES["risk_coverage"]
    same = table[table["score"] == "confidence"].assign(score="margin")
    data = drawn("risk_coverage", pd.concat([table, same])).data
    assert set(data["score"]) == {"confidence, margin", "divergence", "oracle", "random"}
    assert (data.loc[data["score"] == "random", "risk"] == 0.5).all()


def test_without_a_floor_chance_stands_in():
    table = TABLES["floor"].copy()
    table.loc[table["quantity"].isin(["between", "floor", "excess"]), ["estimate", "low", "high"]] = np.nan
    assert set(drawn("floor", table).data["quantity"]) == {"rate", "chance", "beyond_chance"}
    assert set(drawn("floor").data["quantity"]) == {"rate", "between", "floor", "excess"}
    assert set(drawn("floor", measure="jsd").data["measure"]) == {"jsd"}
    with pytest.raises(UsageError, match="the table has label, jsd"):
        drawn("floor", measure="none")


def test_models_stand_below_people_and_sentinels_do_not():
    rng = np.random.default_rng(0)
    metrics = estimates(
        rng,
        [
            {"model": m, "head": m.split(":")[0], "modalities": m.partition(":")[2], "metric": k}
            for m in ("majority", "gated:text", "gated:audio")
            for k in ("accuracy", "log loss")
        ],
    )
    data = drawn("people", models=metrics).data
    assert list(dict.fromkeys(data["who"])) == [
        "people: audio",
        "people: audio+video",
        "model: text",
        "model: audio",
    ]


def test_interval_targets_have_the_figures_that_mean_something():
    drawn_study = draw(np.random.default_rng(0), Design(n=120, kind="interval"))
    panel = drawn_study.panel
    table = pd.DataFrame(
        {"head": "gated", "utterance_id": panel.ids, "group": panel.groups, "y_true": panel.truth}
    )
    table = table.assign(
        spread=1.0, variance=np.arange(120.0), **{f"y_{m}": panel.mean(m)[:, 0] for m in panel.models}
    )
    figure = drawn("confidence", table)
    assert [ax.get_xlabel() for ax in figure.axes] == ["text: value", "audio: value", "video: value"]
    assert drawn("raters", table).axes[0].get_ylabel() == "variance of the ratings"


def test_thresholds_are_percent_of_votes():
    figure = drawn("thresholds")
    assert [list(ax.get_xticks()) for ax in figure.axes] == [[50, 70], [50, 70]]


@pytest.mark.parametrize("name", NAMES)
def test_axes_of_the_user_are_drawn_into(name):
    n = len(drawn(name).axes)
    figure = Figure()
    axes = figure.subplots(1, n, squeeze=False)[0]
    given = {"ax": axes[0]} if name in ("raters", "types", "people") else {"axes": list(axes)}
    assert drawn(name, **given) is figure
    assert all(ax.has_data() for ax in axes)
    if "axes" in given:
        with pytest.raises(UsageError, match=f"{n} are needed"):
            drawn(name, axes=[*axes, axes[0]])


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_no_text_breaks_a_plot(name):
    hostile = tables(modalities=HOSTILE[:3], scores=(*HOSTILE, "oracle"), channels=HOSTILE[3:5])
    figure = drawn(name, hostile[name])
    found = words(figure)
    assert all(len(text) < 130 for text in found)
    assert not any(set("\x00\x1b\n\u202e") & set(text) for text in found)
    named = {"confidence", "gates", "types", "floor", "dominance", "seeds", "reliability", "risk_coverage"}
    if name in named:
        assert any("$x_{1$" in text for text in found)
    width = figure.get_size_inches()[0] * figure.dpi
    assert all(ax.get_position().width > 0.05 for ax in figure.axes)
    assert all(ax.get_tightbbox().x1 <= width + 1 for ax in figure.axes)


def test_long_names_are_cut_and_wide_ones_count_twice():
    assert label("a" * 30) == "a" * 25 + "…"
    assert label("漢" * 30) == "漢" * 12 + "…"
    assert label("a\u202eb\r\nc\ud800") == "ab c"


def test_the_style_of_the_user_holds():
    (ax,) = drawn("types").axes
    assert not ax.spines["top"].get_visible()
    with mpl.rc_context({"font.size": 14.0, "axes.facecolor": "#112233", "xtick.color": "red"}):
        (mine,) = drawn("types").axes
    assert mine.xaxis.label.get_size() == 14.0
    assert mpl.colors.to_hex(mine.get_facecolor()) == "#112233"
    (styled,) = drawn("types", style={"axes.spines.bottom": False}).axes
    assert not styled.spines["bottom"].get_visible()
    assert drawn("gates", style="dark_background").get_facecolor()[:3] == (0.0, 0.0, 0.0)
    with pytest.raises(UsageError, match="nothing"):
        drawn("types", style="nothing")


def test_colours_are_overridden():
    def first(figure):
        return mpl.colors.to_hex(figure.axes[0].containers[0].lines[0].get_color())

    assert first(drawn("dominance")) == plots.OKABE_ITO[0].lower()
    assert first(drawn("dominance", colours={"text": "#123456"})) == "#123456"
    assert first(drawn("types", colours={"agree right": "#abcdef"})) == "#abcdef"


def test_global_settings_and_pyplot_are_left_alone():
    before = dict(mpl.rcParams)
    for name in ("confidence", "types", "gates"):
        drawn(name, style="ggplot")
    assert dict(mpl.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_many_points_become_pixels():
    rng = np.random.default_rng(0)

    def size(n):
        buffer = io.BytesIO()
        drawn("confidence", utterances(rng, n)).savefig(buffer, format="svg")
        return len(buffer.getvalue()), b"<image" in buffer.getvalue()

    few, many = size(1000), size(20_000)
    assert not few[1]
    assert many[1]
    assert many[0] < 1_500_000


def test_a_plot_shows_itself_in_a_notebook(tmp_path, monkeypatch):
    code = (
        "import sys, pandas as pd\n"
        "from mixed_signals.analysis import plots\n"
        "table = pd.DataFrame({'type': ['harmed'], 'family': ['harmed'], 'count': [3], 'estimate': [.3],\n"
        "                      'low': [.2], 'high': [.4], 'chance': [.1]})\n"
        "plots.types(table)"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(code),
            nbformat.v4.new_code_cell("'matplotlib.pyplot' in sys.modules"),
        ]
    )
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["output_type"] == "execute_result"
    assert len(shown["data"]["image/png"]) > 5000
    assert shown["metadata"]["image/png"]["width"] == 690
    assert notebook.cells[1].outputs[0]["data"]["text/plain"] == "False"
