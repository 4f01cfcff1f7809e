"""Hostile headers: .safetensors, and the index of a sharded checkpoint."""

from __future__ import annotations

from forge import entry, safetensors
from hostile import BAD_NAMES, HTML, LFS, NAMED, Hostile


def safetensors_files(canary: str) -> list[Hostile]:
    headers = {
        "deep": ("{" + '"a":' + "[" * 100_000, "nested too deep"),
        "deep objects": ('{"a":' * 100_000, "nested too deep"),
        "a name twice": (f"{{{entry()},{entry()}}}", "'a' twice"),
        "a field twice": ('{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', "'shape' twice"),
        "overlap": (f"{{{entry()},{entry('b')}}}", "damaged"),
        "hole": (f"{{{entry(shape='[1]', offsets='[4,8]')}}}", "damaged"),
        "too short": (f"{{{entry(shape='[1]', offsets='[0,4]')}}}", "damaged"),
        "past the end": (f"{{{entry(shape='[4]', offsets='[0,16]')}}}", "damaged"),
        "negative offset": (f"{{{entry(offsets='[-8,0]')}}}", "damaged"),
        "offset of 2**64": (f"{{{entry(offsets=f'[0,{2**64}]')}}}", "damaged"),
        "offsets the other way": (f"{{{entry(offsets='[8,0]')}}}", "damaged"),
        "shape that overflows": (f"{{{entry(shape=f'[{2**62},4,2]')}}}", "damaged"),
        "negative shape": (f"{{{entry(shape='[-1,-2]')}}}", "damaged"),
        "shape of true": (f"{{{entry(shape='[true,2]')}}}", "damaged"),
        "offsets of text": ('{"a":{"dtype":"F32","shape":[2],"data_offsets":["0","8"]}}', "damaged"),
        "unknown dtype": (entry(dtype='"PICKLE"').join("{}"), "damaged"),
        "8-bit floats": (entry(dtype='"F8_E4M3"', shape="[8]").join("{}"), "not read here"),
        "no object": ("[1,2]", "no kind we know"),
        "not a number": ('{"a":NaN}', "NaN"),
        "bytes that are no text": (b'{"\xff\xfe":1}', "damaged"),
        "metadata of numbers": ('{"__metadata__":{"a":1},' + entry() + "}", "damaged"),
        "many empty lists": ('{"a":[' + "[]," * 3_000_000 + "[]]}", "plausible"),
        "many empty lists in 4 MiB": ('{"a":[' + "[]," * 1_350_000 + "[]]}", "damaged"),
        "code": (f'{{"__metadata__":{{"x":"open({canary!r})"}},"a":"import os"}}', "damaged"),
        **{f"name: {kind}": (entry(name).join("{}"), NAMED) for kind, name in BAD_NAMES.items()},
    }
    files = {name: (safetensors(header), reason) for name, (header, reason) in headers.items()}
    files |= {
        "a header of 2**64 - 1": (safetensors("{}", length=2**64 - 1), "no kind we know|plausible"),
        "a header of 2**39": (safetensors("{}", length=2**39), "plausible"),
        "a header past the end": (safetensors("{}", length=5000), "damaged"),
        "LFS pointer": (LFS, "Git LFS pointer"),
        "HTML": (HTML, "HTML page"),
    }
    return [Hostile(name=name, suffix=".safetensors", content=c, reason=reason) for name, (c, reason) in files.items()]


def index_files(canary: str) -> list[Hostile]:
    files = {
        "deep": ('{"a":' * 100_000, "nested too deep"),
        "the same name twice": ('{"weight_map":{"a":"a.safetensors","a":"b.safetensors"}}', "'a' twice"),
        "a shard elsewhere": ('{"weight_map":{"a":"../x.safetensors"}}', "no file beside it"),
        "an absolute shard": ('{"weight_map":{"a":"/etc/x.safetensors"}}', "no file beside it"),
        "a shard that is a pickle": ('{"weight_map":{"a":"x.pth"}}', "shards that are no .safetensors"),
        "HTML": (HTML.decode(), "HTML page"),
    }
    return [Hostile(name=name, suffix=".json", content=text_.encode(), reason=r) for name, (text_, r) in files.items()]
