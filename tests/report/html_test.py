"""The page: says what the figures say, obeys no input, loads nothing, repeats itself."""

import copy
import re
from pathlib import Path
from runpy import run_path

import pytest

from cifr_jax.errors import UserError
from cifr_jax.report import drawing, figures
from cifr_jax.report.html import render, write_report

_READER = run_path(str(Path(__file__).parent / "page_reader.py"))
Page, ATTACK = _READER["Page"], _READER["ATTACK"]
replaced, spoilt = _READER["replaced"], _READER["spoilt"]
KEPT = ("role", "cell", "kind", "level")  # texts that select


@pytest.fixture
def few(results):
    """The results with four panels to draw instead of seventeen: drawing is slow."""
    for row in results["rows"]:
        if row["cipher"] != "walnut:seed=52":
            del row["roc"]
    results["losses"] = [e for e in results["losses"] if e["job"] == "attack-walnut-50"]
    results["layer_curve"] = [e for e in results["layer_curve"] if e["pool"] == "last"]
    return results


def test_page_is_well_formed_with_unique_ids_and_resolved_references(results):
    page = Page(render(results))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [a[k] for _, a in page.tags for k in ("href", "xlink:href") if k in a]
    clips = [a["clip-path"][4:-1] for _, a in page.tags if "clip-path" in a]
    labels = ["#" + a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert len(clips) > 10
    for target in targets + clips + labels:
        assert target.startswith("#") and target[1:] in ids


def test_page_has_landmarks_and_a_name_for_every_figure_and_table(results):
    page = Page(render(results))
    tags = [tag for tag, _ in page.tags]
    assert {"header", "nav", "main", "footer"} <= set(tags)
    assert tags.count("table") == tags.count("caption") > 8
    drawn = [a for tag, a in page.tags if tag == "svg" and "aria-hidden" not in a]
    assert len(drawn) == 6 + 2 + 9  # ROC twice a learned cipher, two poolings, nine jobs
    assert all(a["role"] == "img" and a["aria-label"] for a in drawn)
    assert tags.count("figure") == tags.count("figcaption") == 3


def test_page_loads_and_runs_nothing(few):
    html = render(few)
    page = Page(html)
    assert "http:" not in html and "https:" not in html and "@import" not in html
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {
        tag for tag, _ in page.tags
    }
    assert not any(k.startswith("on") or k == "src" for _, a in page.tags for k in a)
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none';") and "script" not in policy
    assert set(re.findall(r"url\((.)", html)) == {"#"}


def test_same_results_give_the_same_bytes_whatever_the_style_in_force(few, tmp_path):
    import matplotlib

    write_report(few, tmp_path / "a.html")
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path"}):
        write_report(copy.deepcopy(few), tmp_path / "b.html")
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "b.html").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]
    few["rows"][1]["roc"][30][1] += 0.01
    assert render(few).encode() != first


def test_headline_names_the_validated_monitor_with_its_figures_and_intervals(few):
    text = " ".join(Page(render(few)).text.split())
    assert "linear_probe caught 52.8% to 67.2% of the restricted encoded prompts" in text
    assert "AUROC 0.955 to 0.975" in text
    assert "AUROC [0.935, 0.970]" in text
    assert "the highest control was base_without_adapter with 0.570" in text
    assert "endspeak was not learned and counts for nobody" in text


def test_unlearned_cipher_shows_no_figure_even_if_rows_hold_one(few):
    row = copy.deepcopy(next(r for r in few["rows"] if r["cell"] == "encoded"))
    row |= {"cipher": "endspeak", "role": "test_family", "auroc": 0.98765}
    before = Page(render(few)).text
    few["rows"].append(row)
    after = Page(render(few)).text
    main_tables = "Every figure of every monitor"
    assert "not learned" in before
    assert after.split(main_tables)[0] == before.split(main_tables)[0]


def test_controls_are_held_against_the_bar_and_kept_apart(few):
    under = Page(render(few)).text
    assert "over" not in under.split("The controls")[1].split("Real text")[0]
    for row in few["rows"]:
        if row["monitor"] == "char_ngram" and row["cell"] == "encoded":
            row["auroc"] = 0.651
    over = Page(render(few)).text
    section = over.split("The controls")[1].split("Real text")[0]
    assert len(re.findall(r"\bover\b", section)) == 3
    assert len(re.findall(r"\bunder\b(?! AUROC)", section)) == 9


def test_squares_take_the_rate_at_the_threshold_or_say_where_it_was_read(few):
    assert "at 1% false positives" not in Page(render(few)).text.split("The 2x2")[2]
    for row in few["rows"]:
        del row["tpr_at_threshold"]
    assert "at 1% false positives" in Page(render(few)).text.split("The 2x2")[2]


def test_failed_leakage_check_is_said_at_the_top_and_by_name(few):
    assert "Leakage checks failed" not in render(few)
    few["leakage_checks"].append({"name": "split by entity", "passed": False})
    text = Page(render(few)).text.replace(" :", ":")
    assert text.index("Leakage checks failed") < text.index("Each job is one upload")
    assert "1 of 3 failed" in text and "failed: split by entity" in text


@pytest.mark.parametrize("attack", [ATTACK, "javascript:alert(1)", "a\x00\x1b[31m\u202eb"])
def test_no_text_of_the_results_becomes_markup(few, attack):
    safe = Page(render(replaced(few, "harmless", KEPT)))
    hostile = replaced(few, attack, KEPT)
    hostile["config"] = {attack: attack}
    hostile["environment"] = {attack: {attack: attack}}
    hostile["timings"] = {attack: 1.0}
    hostile["base_model"]["card"] = {attack: 0.5}
    page = Page(render(hostile))
    wanted = {tag for tag, _ in safe.tags}
    assert {tag for tag, _ in page.tags} <= wanted
    assert {k for _, a in page.tags for k in a} == {k for _, a in safe.tags for k in a}
    assert "\x1b" not in page.text and "\x00" not in page.text
    assert "\u202e" not in page.text
    hrefs = [a[k] for _, a in page.tags for k in ("href", "xlink:href") if k in a]
    assert all(h.startswith("#") for h in hrefs)
    if attack is ATTACK:
        assert attack in page.text  # shown as it was given
        assert any(attack in a.get("aria-label", "") for _, a in page.tags)
        assert "49&" not in page.text  # no template runs inside a value


def test_lone_surrogate_is_written_as_its_escape(few, tmp_path):
    few["jobs"][0]["name"] = "broken \ud800 name"
    write_report(few, tmp_path / "report.html")
    assert "broken \\ud800 name" in (tmp_path / "report.html").read_text("utf-8")


def _without(results, *keys):
    return {k: v for k, v in results.items() if k not in keys}


def test_every_top_level_key_may_be_absent(few):
    for key in few:
        Page(render(_without(few, key)))
    bare = Page(render({}))
    assert "No monitor was scored in this run." in bare.text
    assert not any(tag == "figure" for tag, _ in bare.tags)
    only_text = Page(render({"text": few["text"]})).text
    assert "One LoRA job of 60 steps on 240 examples took the loss" in only_text


def test_empty_lists_and_null_or_nan_figures_show_as_gaps(few):
    empty = {k: type(v)() if isinstance(v, list | dict) else v for k, v in few.items()}
    Page(render(empty))

    for gap in (None, float("nan"), float("inf")):
        html = render(spoilt(few, gap))
        text = Page(html).text.split("Environment and configuration")[0]
        assert "–" in text and not re.search(r"\b(nan|inf|None)\b", text)


def test_lead_falls_back_to_test_figures_and_says_so(few):
    for row in few["rows"]:
        row["validation_auroc"] = None
    text = " ".join(Page(render(few)).text.split())
    assert "take it as the best of many" in text
    assert "test was not looked at" not in text


def test_validation_and_not_test_decides_who_leads(few):
    for row in few["rows"]:
        row["validation_auroc"] = 0.9 if row["monitor"] == "perplexity" else 0.6
        row["validation_auroc"] += 0.09 * (row["monitor"] == "char_ngram")  # a control
    assert "perplexity caught" in render(few)


def test_write_refuses_with_the_path_where_it_cannot_write(few, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        write_report(few, tmp_path / "file" / "report.html")


def _contrast(one, other):
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        ]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_lines_and_small_print_stand_out_in_both_schemes(few):
    papers = re.findall(r"--paper: (#\w+)", render(few))
    muted = re.findall(r"--muted: (#\w+)", render(few))
    papers = [p if len(p) == 7 else "#" + "".join(2 * c for c in p[1:]) for p in papers]
    assert len(papers) == len(muted) == 2
    for paper, small, lines in zip(
        papers, muted, (drawing.LIGHT, drawing.DARK), strict=True
    ):
        assert _contrast(paper, small) >= 4.5  # WCAG AA, text
        assert all(_contrast(paper, line) >= 3 for line in lines)  # WCAG AA, graphics


def test_drawings_hold_no_fixed_colour_of_the_placeholders(results):
    for draw in (figures.roc, figures.layers, figures.losses):
        for panel in draw(results).panels:
            assert not re.search(r"#0[23]\d{4}", panel.svg)
            assert "var(--s0)" in panel.svg and "var(--ink)" in panel.svg


def test_many_jobs_and_many_monitors_stay_drawable(results):
    results["losses"] = [
        {"job": f"job-{j}", "step": s, "loss": 1.0 / (1 + s)}
        for j in range(figures.MAX_LOSS_PANELS + 3)
        for s in range(3)
    ]
    drawing = figures.losses(results)
    assert len(drawing.panels) == figures.MAX_LOSS_PANELS
    assert drawing.notes == ["3 more jobs are in results.json."]
    first = [r for r in results["rows"] if r["monitor"] == "linear_probe"]
    results["rows"] += [r | {"monitor": f"m{i}"} for i in range(9) for r in first]
    keys = [(k.color, k.dash) for k in figures.roc(results).keys]
    plain = [k for k in keys if k[0] != "var(--muted)"]
    assert len(plain) == 13 and len(set(plain)) == 12  # hue and dash: twelve pairs
