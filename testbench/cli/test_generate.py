"""`acceltran generate` and `acceltran demo`."""

import json
from pathlib import Path

from acceltran_cli.demo import REFERENCE, SENTENCES

FILES = ["acceltran.h", "acceltran.json", "acceltran.v", "lint.vlt", "registers.md"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files(acceltran, tmp_path):
    contents = []
    for name in ("a", "some/where else"):
        folder = tmp_path / name
        answer = acceltran("generate", "tiny", "--set", "array.lanes=1", "-o", folder)
        assert (answer.code, answer.stderr) == (0, "")
        assert answer.stdout == f"Wrote tiny to {folder}: top module acceltran in acceltran.v\n"
        assert names(folder) == FILES
        contents.append([(folder / file).read_bytes() for file in FILES])
    assert contents[0] == contents[1]
    assert b"\nmodule acceltran(" in contents[0][2]
    sidecar = json.loads(contents[0][1])
    assert sidecar["preset"] == "tiny" and sidecar["configuration"]["array"]["lanes"] == 1


def test_refused_outputs(acceltran, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for output in ("file", "file/rtl/more"):
        answer = acceltran("generate", "tiny", "-o", tmp_path / output)
        rule = f"must be writable: {tmp_path}/file is not a folder"
        message = f"Error: Output {tmp_path}/{output} {rule}\n"
        assert (answer.code, answer.stdout, answer.stderr) == (2, "", message)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acceltran.generate.write_outputs", fail)
    answer = acceltran("generate", "tiny", "-o", tmp_path / "rtl")
    message = f"Error: Output {tmp_path}/rtl must be writable: No space left on device\n"
    assert (answer.code, answer.stdout, answer.stderr) == (2, "", message)


def test_demo(acceltran, tmp_path, monkeypatch):
    """README shows what is printed here."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    answer = acceltran("demo")
    assert (answer.code, answer.stderr) == (0, "")
    assert names(tmp_path / "build" / "rtl" / "tiny") == FILES
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("Verilog in build/rtl/tiny: ")
    assert [line.split()[0] for line in lines[2:6]] == ["positive"] * 2 + ["negative"] * 2
    assert "check        RTL = golden, bit for bit" in lines
    words = lines[-1].split()
    greatest, mean = float(words[words.index("error") + 1]), float(words[-3])
    assert greatest < 2e-4 and mean < 4e-5
    assert f"```\n{answer.stdout}```\n" in readme

    pruned = acceltran("classify", "--sparsity", 0.5, "--json", REFERENCE, *SENTENCES)
    content = json.loads(pruned.stdout)
    assert f"{content['cycles']:,} cycles" in readme
    labels = [sentence["label"] for sentence in content["sentences"]]
    assert labels == [line.split()[0] for line in lines[2:6]]
