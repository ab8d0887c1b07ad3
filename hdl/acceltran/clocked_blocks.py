"""Write each register as one clocked block."""

import re
from collections import Counter

__all__ = ["fold_next_states"]

MODULE_END = re.compile(r"(?<=^endmodule\n)", re.M)
UNNAMED = re.compile(r"\\\$\S+ ")
DECLARATION = re.compile(r"^  reg (?:\[\d+:\d+\] )?(\\\$\S+ );\n", re.M)
REGISTER = re.compile(r"^  always @\(posedge (\S+)\)\n    ([^[\n]+) <= (\\\$\S+ );\n", re.M)
NEXT_STATE = re.compile(
    r"^  always @\* begin\n    if \(\\\$auto\S+ \) begin end\n"
    r"    (?P<name>\\\$\S+ ) = (?P<default>.+);\n(?P<body>(?:    .*\n)*)  end\n",
    re.M,
)
STATEMENT = re.compile(r"^( +)(\S.*?) = (.*);$", re.M)


def fold_next_states(verilog: str) -> str:
    """Move each block that computes a next state into that of its register.

    Yosys writes two blocks for a register that has an enable, choices or a reset: ::

        always @* begin                     always @(posedge clk) begin
          if (dummy) begin end                if (enable) begin
          next = count;                         count <= i;
          if (enable) begin          ->       end
            next = i;                       end
          end
        end
        always @(posedge clk)
          count <= next;

    The text is shorter, and simulates and compiles faster. Blocks whose result is used elsewhere
    too stay as they are. The input is Verilog as Yosys writes it, and no other.
    """
    return "".join(map(_fold_module, MODULE_END.split(verilog)))


def _fold_module(module: str) -> str:
    uses = Counter(UNNAMED.findall(module))
    registers = {found[3] for found in REGISTER.finditer(module)}
    # Besides its block, a next state is in its declaration and in its register.
    blocks = {
        block["name"]: block
        for block in NEXT_STATE.finditer(module)
        if block["name"] in registers and uses[block["name"]] == block[0].count(block["name"]) + 2
    }

    def clocked(register: re.Match[str]) -> str:
        clock, target, name = register.groups()
        if name not in blocks:
            return register[0]

        def assign(statement: re.Match[str]) -> str:
            indent, left, right = statement.groups()
            return f"{indent}{left.replace(name, target)} <= {right};"

        body = STATEMENT.sub(assign, blocks[name]["body"])
        if (default := blocks[name]["default"]) != target:
            body = f"    {target} <= {default};\n{body}"
        return f"  always @(posedge {clock}) begin\n{body}  end\n"

    module = REGISTER.sub(clocked, module)
    module = NEXT_STATE.sub(lambda block: "" if block["name"] in blocks else block[0], module)
    return DECLARATION.sub(lambda found: "" if found[1] in blocks else found[0], module)
