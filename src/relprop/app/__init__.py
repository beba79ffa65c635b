"""The app: a page on which to drop a photo and look at explanations, served on this machine.

Needs the extra ``app``; :mod:`relprop.app.desk` does the work and knows nothing of the page.
"""

from relprop.lazy import submodules

__getattr__ = submodules(__name__, __path__)
