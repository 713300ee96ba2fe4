"""The folders of one installation."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Folders of one installation; see `settings`."""

    root: Path

    @property
    def archive(self) -> Path:
        """Parquet bars."""
        return self.root / "archive"

    @property
    def objects(self) -> Path:
        """Charts by digest."""
        return self.root / "objects"

    @property
    def cassette(self) -> Path:
        """Recorded replies of models."""
        return self.root / "cassette" / "replies.sqlite3"

    @property
    def database(self) -> Path:
        """The embedded PostgreSQL's data folder."""
        return self.root / "postgres"

    @property
    def stops(self) -> Path:
        """Emergency stops in force."""
        return self.root / "stops"

    @property
    def anchors(self) -> Path:
        """Heads of the chain, outside the database."""
        return self.root / "anchors.jsonl"

    @property
    def journal(self) -> Path:
        """What happened while the ledger could not be written."""
        return self.root / "journal.jsonl"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def prompts(self) -> Path:
        """The user's own prompts."""
        return self.root / "prompts"

    @property
    def golden(self) -> Path:
        """The user's own cases of the golden set."""
        return self.root / "golden"

    @property
    def texts(self) -> Path:
        """Words from outside, by symbol."""
        return self.root / "texts"

    @property
    def prices(self) -> Path:
        """The user's own prices of models."""
        return self.root / "prices.toml"

    @property
    def calls(self) -> Path:
        """A line of every call to a model, a file a day."""
        return self.root / "logs" / "llm"
