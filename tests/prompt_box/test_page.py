"""Widgets in a page, and the note where no kernel runs."""

import ipywidgets as widgets

from helpers.prompt_box import page

VIEW = "application/vnd.jupyter.widget-view+json"


def test_a_widget_has_a_note_beside_it():
    button = widgets.Button()
    bundle = page.mimebundle(button, "a < b")
    assert bundle[VIEW]["model_id"] == button.model_id
    assert bundle["text/plain"] == "a < b"
    assert bundle["text/html"] == "<em>a &lt; b</em>"


def test_show_puts_all_widgets_below_each_other(monkeypatch):
    columns = []
    bundles = []
    monkeypatch.setattr(
        page, "mimebundle", lambda column, note: columns.append(column) or {"text/plain": note}
    )
    monkeypatch.setattr(page, "display", lambda bundle, raw: bundles.append(bundle))
    parts = (widgets.Button(), widgets.HTML(layout={"max_width": "20em"}))
    page.show(*parts)
    assert isinstance(columns[0], widgets.VBox)
    assert columns[0].children == parts
    assert [part.layout.max_width for part in parts] == ["98%", "20em"]
    assert bundles == [{"text/plain": page.NOTE}]
