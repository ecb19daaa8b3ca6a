"""Mathematics as MathML, which browsers draw themselves: no script and no network."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def _mathml(node: nodes.math | nodes.math_block, block: bool) -> str:
    # GitHub sets $`x`$ more reliably than $x$: the backticks keep Markdown away.
    text = node.astext().strip().strip("`")
    # Fences stretch in MathML; docutils knows no sizes of theirs.
    text = re.sub(r"\\[bB]igg?[lr]?(?![a-zA-Z])", "", text)
    aligned = r"\\" in text or "&" in text
    if block and aligned and not text.startswith(r"\begin"):
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        return str(latex2mathml.tex2mathml(text, as_block=block))
    except MathError as error:
        logger.warning("cannot be set as MathML (%s): %s", error, text, location=node)
        return f"<code>{text}</code>"


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{_mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
