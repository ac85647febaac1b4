"""What is changed in a chat template before it is compiled.

Whatever can grow or take long is sent through filters, for which `template_sandbox`
charges.
"""

from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.visitor import NodeTransformer

_REFUSED_STATEMENTS = (
    nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport,
    nodes.EvalContextModifier,
)  # fmt: skip


class Budgeted(NodeTransformer):
    """Sends what can grow or take long through filters that charge for it."""

    def __init__(self):
        self._buffered = 0  # depth in blocks whose text is held before it is written

    def visit(self, node: nodes.Node) -> Any:
        if isinstance(node, _REFUSED_STATEMENTS):
            what = f"{type(node).__name__.lower()} is not allowed in a chat template"
            raise jinja2.TemplateSyntaxError(what, node.lineno)
        return super().visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("recursive loops are not allowed", node.lineno)
        node.iter = _filter(node.iter, "_counted")
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)  # in place
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "_weighed")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "_weighed")
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        node.key = _filter(node.key, "_key")
        return self.generic_visit(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "_bounded") if isinstance(node.arg, nodes.Slice) else node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        node.node = _filter(node.node, "_checked")
        return self.generic_visit(node)

    def visit_AssignBlock(self, node: nodes.Node) -> nodes.Node:
        self._buffered += 1
        self.generic_visit(node)
        self._buffered -= 1
        return node

    visit_Macro = visit_CallBlock = visit_FilterBlock = visit_AssignBlock

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        # What expressions write is charged by `finalize`, which template text passes by.
        if self._buffered:
            node.nodes = [
                _filter(nodes.Const(child.data, lineno=child.lineno), "_written")
                if isinstance(child, nodes.TemplateData)
                else child
                for child in node.nodes
            ]
        return self.generic_visit(node)


def _filter(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text; unused here."""

    tags = {"generation"}

    def parse(self, parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
