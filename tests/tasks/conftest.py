"""The tiny classifiers of tests/models, for tests of whole tasks."""

from tests.models.conftest import backbone, batch, folder, kind, task, weights  # ruff: ignore[unused-import]
