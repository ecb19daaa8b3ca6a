"""Mathematics as MathML, which browsers draw themselves: no script and no network."""

import html
import re
from xml.etree import ElementTree

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
    text = re.sub(r"\\([td]?frac)(\d)(\w)", r"\\\1{\2}{\3}", text)  # it reads 12 in \frac12
    aligned = r"\\" in text or "&" in text
    if block and aligned and not text.startswith(r"\begin"):
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        return _accented(str(latex2mathml.tex2mathml(text, as_block=block)))
    except MathError as error:
        logger.warning("cannot be set as MathML (%s): %s", error, text, location=node)
        return f"<code>{text}</code>"


def _accented(mathml: str) -> str:
    """Accents as they are meant: docutils sets the index of \\bar z_i below the letter."""
    ElementTree.register_namespace("", NAMESPACE)
    named = re.compile(r"&(?!amp;|lt;|gt;)\w+;")  # those of HTML, which XML does not know
    root = ElementTree.fromstring(named.sub(lambda entity: html.unescape(entity[0]), mathml))
    for element in root.iter(f"{{{NAMESPACE}}}mover"):
        if element[1].text == "_":  # for \\overline, and does not stretch
            element[1].text = "‾"
    for element in root.iter(f"{{{NAMESPACE}}}munderover"):
        letter, index, accent = element
        if accent.tag == f"{{{NAMESPACE}}}mo" and accent.text in ("ˉ", "~", "˜", "^"):
            element.tag = f"{{{NAMESPACE}}}msub"
            element.attrib.clear()
            over = ElementTree.Element(f"{{{NAMESPACE}}}mover", accent="true")
            over.extend([letter, accent])
            element[:] = [over, index]
    return ElementTree.tostring(root, encoding="unicode")


NAMESPACE = "http://www.w3.org/1998/Math/MathML"


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
