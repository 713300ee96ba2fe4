"""83, T4: foreign words as Dagster is given them: in cells and JSON, visible, and never as Markdown."""

from pathlib import Path

from assets.model_tables import conversations
from assets.presenting import picture_sheet, table
from tests.desks import OPEN, bars, floor, market
from tests.model_desks import asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour

HOSTILE = "\u202eno\r\n\x1b[2J\u2066\u200bbuy\u2028![x](https://attacker.example/x.png)"


def test_a_cell_is_one_visible_line(tmp_path):
    [record] = table([{"says": HOSTILE, "count": 1, "file": str(tmp_path)}]).records
    assert record.data == {"says": "no [2Jbuy ![x](https://attacker.example/x.png)", "count": 1, "file": str(tmp_path)}


def test_a_reply_is_shown_with_what_it_hides(tmp_path):
    with AnthropicServer() as server:
        server.script(Behaviour(reply=HOSTILE), Behaviour(reply=HOSTILE))
        asked = models(tmp_path, server)
        floor_ = floor(tmp_path, market(bars("AAPL")), OPEN, asking(), models=asked)
        floor_.cycle()
        for llm in asked.llms.values():
            llm.close()
    shown = conversations(floor_.desk, floor_.events())["replies"].data
    assert shown == {"AAPL (asker)": "\\u202eno\\r\n\\x1b[2J\\u2066\\u200bbuy\\u2028![x](https://attacker.example/x.png)"}


def test_a_picture_that_was_changed_is_missed_and_the_others_are_shown(tmp_path):
    """fault 36."""
    floor_ = floor(tmp_path, market(bars("AAPL")), OPEN)
    digest = floor_.desk.objects.put(b"\x89PNG", ".png")
    Path(floor_.desk.objects.locate(digest)).write_bytes(b"\x89PNG, painted over")
    assert picture_sheet(floor_.desk, [("AAPL for asker", digest)]).value == "AAPL for asker: the picture is gone or damaged"
