"""Managed by Grunnfjell. Python imports this file when it starts, in every program that `run` starts: workers, beat, web
processes, management commands, shells. Celery then takes the platform's settings as soon as the application imports it
(grunnfjell_celery.py). A program that never imports it pays nothing.
"""

import sys
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path

CELERY = "celery.app.base"  # the module with the class Celery


class LoaderOfCelery(SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        import grunnfjell_celery

        grunnfjell_celery.install(module.Celery)


class FinderOfCelery:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == CELERY else None
        if spec is not None:
            spec.loader = LoaderOfCelery(spec.loader.name, spec.loader.path)
        return spec


def run_the_hidden():
    """Python imports only the first sitecustomize on its path. Debian, the application or a tracer may have one too."""
    here = Path(__file__).resolve().parent
    spec = PathFinder.find_spec(__name__, [entry for entry in sys.path if Path(entry).resolve() != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


sys.meta_path.insert(0, FinderOfCelery)
run_the_hidden()
