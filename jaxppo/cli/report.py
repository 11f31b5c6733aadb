"""`jaxppo report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxppo.cli.flags import parse
from jaxppo.fields import check
from jaxppo.report import write_report
from jaxppo.tables import load_results

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Write the report of a sweep: a page of tables and figures."""

    @dataclass(frozen=True)
    class Report:
        """Write the report of a sweep: one HTML page, and beside it its figures, summary.csv and best_ENV.toml."""

        dir: Annotated[Path, tyro.conf.Positional]
        """Directory of a sweep, finished or not."""
        out: Path | None = None
        """The page; DIR/report.html if left out."""

    args = parse(Report, argv, "jaxppo report")
    out = args.out or args.dir / "report.html"
    check(out.suffix == ".html", "out", out, "a file that ends in .html")
    write_report(load_results(args.dir), out)
    print(f"wrote {out}")
    return 0
