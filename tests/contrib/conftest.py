"""The tiny classifiers of tests/models, for plugins that need whole models."""

from tests.models.conftest import backbone, folder, kind  # ruff: ignore[unused-import]
