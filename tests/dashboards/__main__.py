"""Writes the JSON of the dashboards."""

from tests.dashboards import FOLDER, documents

for name, text in documents().items():
    (FOLDER / name).write_text(text, "utf-8")
