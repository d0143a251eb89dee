"""Reading .npy files (version 1.0, little-endian f4 and i4, C order) with the standard library."""
import array
import ast
import struct
import sys

TYPES = {"<f4": "f", "<i4": "i"}


def read_npy(path):
    """-> (shape, array.array of all values)"""
    with open(path, "rb") as f:
        data = f.read()
    if data[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError(f"{path}: not a .npy file of version 1.0")
    (length,) = struct.unpack_from("<H", data, 8)
    header = ast.literal_eval(data[10:10 + length].decode("latin-1"))
    if header["descr"] not in TYPES or header["fortran_order"]:
        raise ValueError(f"{path}: {header['descr']} is not <f4 or <i4 in C order")
    values = array.array(TYPES[header["descr"]])
    values.frombytes(data[10 + length:])
    if sys.byteorder != "little":
        values.byteswap()
    count = 1
    for n in header["shape"]:
        count *= n
    if count != len(values):
        raise ValueError(f"{path}: {len(values)} values for shape {header['shape']}")
    return tuple(header["shape"]), values


def read_rows(path):
    """A two-dimensional file as a list of rows."""
    (n, width), values = read_npy(path)
    return [values[i * width:(i + 1) * width] for i in range(n)]
