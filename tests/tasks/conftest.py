"""The tiny classifiers of tests/models, for tests of whole tasks."""

from tests.models.conftest import backbone, folder, kind, reviews  # noqa: F401
