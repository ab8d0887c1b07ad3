"""What the summary finds in Verilog as Yosys writes it."""

import pytest

from acceltran.netlist_summary import summarise

VERILOG = r"""// A comment with module acceltran_none (
/* Generated */

module acceltran(a
, b);
  wire [7:0] \$1 ;
  wire [7:0] acceltran_wire;
  assign \$1  = a * b;
  assign \$2  = a * 5'h10;
  assign \$3  = $signed(a) * $signed({ 1'h0, b[3:0] });
  assign \$4  = 3'sh2 * a;
  assign \$5  = $signed(a) * $signed(8'sh03);
  acceltran_Pe_lanes2 pe0 (
    .a(a)
  );
  acceltran_Pe_lanes2 pe1 (
    .a(a)
  );
  acceltran_Pe_lanes2 pe3 (
    .a(a)
  );
  acceltran_ram #(
    .ADDRESS_WIDTH(32'd7),
    .DEPTH(32'd100),
    .WIDTH(32'd20)
  ) rows (
    .clk(clk)
  );
endmodule

module acceltran_Pe_lanes2(a);
  acceltran_Lane lane_0 (
    .a(a)
  );
  acceltran_Lane lane_1 (
    .a(a)
  );
  acceltran_Lane log2 (
    .a(a)
  );
endmodule

module acceltran_Lane(a);
  always @(posedge clk)
    q <= a * a;
  acceltran_ram #(
    .ADDRESS_WIDTH(32'd4),
    .DEPTH(32'd16),
    .WIDTH(32'd3)
  ) \table  (
    .clk(clk)
  );
  acceltran_ram #(
    .ADDRESS_WIDTH(32'd4),
    .DEPTH(32'd16),
    .WIDTH(32'd8)
  ) sums1 (
    .clk(clk)
  );
  acceltran_ram #(
    .ADDRESS_WIDTH(32'd4),
    .DEPTH(32'd16),
    .WIDTH(32'd8)
  ) sums10 (
    .clk(clk)
  );
  acceltran_ram #(
    .ADDRESS_WIDTH(32'd4),
    .DEPTH(32'd16),
    .WIDTH(32'd9)
  ) sums2 (
    .clk(clk)
  );
endmodule

module acceltran_unused(a);
  assign b = a * a;
endmodule

module acceltran_ram #(
  parameter WIDTH = 8
) (
  input wire clk
);
  assign q = a * b;
endmodule
"""


def test_everything_is_found():
    lanes = {f"pe[0-1,3].{lane}": count * 3 for lane, count in (("lane_[0-1]", 2), ("log2", 1))}
    summary = summarise(VERILOG, "acceltran")
    assert summary == {
        "instances": {
            "pe[0-1,3]": "acceltran_Pe_lanes2",
            **dict.fromkeys(lanes, "acceltran_Lane"),
        },
        "modules": {
            "acceltran": 1,
            "acceltran_Lane": 9,
            "acceltran_Pe_lanes2": 3,
            "acceltran_ram": 37,
        },
        "memories": {
            "rows": {"width": 20, "depth": 100, "count": 1},
            **{
                f"{lane}.{name}": {"width": width, "depth": 16, "count": count * number}
                for lane, count in lanes.items()
                for name, width, number in (("table", 3, 1), ("sums[1,10]", 8, 2), ("sums2", 9, 1))
            },
        },
        "memory_count": 37,
        "memory_bits": 2000 + 9 * 16 * (3 + 8 + 8 + 9),
        "multiplications": 2 + 9,
    }


def test_a_part_of_the_hierarchy():
    summary = summarise(VERILOG, "acceltran_Lane")
    assert list(summary["memories"]) == ["table", "sums[1,10]", "sums2"]
    assert summary["multiplications"] == 1


def test_refuses_undefined_modules():
    text = VERILOG.replace("module acceltran_Lane", "module acceltran_lane")
    with pytest.raises(ValueError, match=r"^Module acceltran_Lane must be defined$"):
        summarise(text, "acceltran")
