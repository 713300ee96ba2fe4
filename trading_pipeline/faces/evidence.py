"""The model report as pictures and as one HTML file that needs nothing else: for the command line and for Dagster's UI.

Every word in it is escaped: names come from files, providers and models. No script, no address to fetch from.
"""

import base64
from html import escape

from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.adapters.evidence_png import horizons_png, reliability_png, timeline_png
from trading_pipeline.domain.judgement import Estimate
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.service.reports.model_report import Assessment, ModelReport
from trading_pipeline.service.reports.report_tables import ReportTable, report_tables

PICTURE_WIDTH, PICTURE_BYTES = 800, 40_000
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #16202a; margin: 2em auto; max-width: 1240px; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
.verdict { border-left: 6px solid #55616d; padding: .4em 1em; margin: .6em 0; background: #f4f6f8; }
.SKILL { border-color: #00936b; } .LOSES { border-color: #d1480f; } .NOT { border-color: #e69f00; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .87em; }
th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #e6e9ed; vertical-align: top; }
th { color: #55616d; font-weight: 600; white-space: nowrap; } td { min-width: 6em; } td:first-child { min-width: 19em; }
p.note { color: #55616d; } img { width: 590px; max-width: 100%; vertical-align: top; border: 1px solid #e6e9ed; margin: .5em .8em .5em 0; }
"""


def pictures(report: ModelReport) -> dict[str, bytes]:
    """PNGs by what they show; empty before the first decision."""
    if not report.assessments:
        return {}
    rows, horizon = {each.title: _hit_rates(each) for each in report.assessments}, report.horizon.replace("_", " ")
    made = {
        "hit rate by horizon": horizons_png(rows),
        "results over time": timeline_png({each.title: each.timeline for each in report.assessments}, horizon),
    }
    for each in report.assessments:
        made[f"reliability of {each.title}"] = reliability_png(each.title, each.curve, each.map, f"{horizon} later")
    return {name: thumbnail(content, PICTURE_WIDTH, PICTURE_BYTES) for name, content in made.items()}


def page(report: ModelReport) -> str:
    """The whole report as one HTML document."""
    verdicts = "".join(
        f'<div class="verdict {escape(each.verdict.split()[0])}"><b>{escape(each.verdict)}</b> &nbsp; {escape(each.version.label)}: '
        f"{escape(each.reason)}</div>"
        for each in report.assessments
    )
    shown = "".join(f'<img alt="{escape(name)}" src="{data_uri(content)}">' for name, content in pictures(report).items())
    tables = "".join(_table(each) for each in report_tables(report) if each.name != "verdict")
    at = f"{report.at.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Model report</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><h1>Model report</h1><p class=\"note\">As of {at}.</p>"
        f"{verdicts or '<p>No decision has been taken yet.</p>'}{shown}{tables}</body></html>\n"
    )


def data_uri(png: bytes) -> str:
    """A picture that stands in the text itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _hit_rates(assessment: Assessment) -> dict[str, Estimate | None]:
    return {horizon: right if isinstance(right, Estimate) else None for horizon, (right, _) in assessment.horizons.items()}


def _table(table: ReportTable) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<h2>{escape(table.title)}</h2>{note}<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
