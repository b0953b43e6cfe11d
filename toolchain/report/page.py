"""The report as one HTML page without scripts or outside files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from toolchain.errors import ConfigurationError
from toolchain.report.pictures import draw_sizes, draw_spectra
from toolchain.report.tables import CODING, PRODUCTS, file_parts, short, weighted_layers
from toolchain.report.vendor import TITLE, vendor_table
from toolchain.resources import folder


def write_page(report: dict[str, Any], path: Path) -> None:
    """Writes the page. Names from the model are escaped. Raises ConfigurationError when it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("hls_templates") / "report"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    largest = max((layer["cycles"] for layer in report["layers"]), default=1)
    page = environment.get_template("report.html.j2").render(
        report=report,
        short=short,
        largest=max(largest, 1),
        weighted=weighted_layers(report),
        weight_tables={"coding": CODING, "multiplications": PRODUCTS},
        file_parts=file_parts(report),
        vendor=vendor_table(report),
        vendor_title=TITLE,
        sizes=draw_sizes(report),
        spectra=draw_spectra(report),
    )
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(path)) from None
