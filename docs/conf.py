"""Sphinx: `make docs` builds the pages into docs/_build/html, offline; warnings are errors."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "kahlervae"
author = "The kahlervae developers"
release = installed("kahlervae")
html_title = f"kahlervae {release}"

extensions = [
    "mathml",  # beside this file
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # the fields of named tuples are documented with the class alone
napoleon_attr_annotations = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
# The tutorial is kept without outputs, which would go stale, and run at every build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
