"""Truth values kept as bits: an eighth of the bytes, unpacked when they are read."""

import math

import numpy as np
import xarray as xr

_SUFFIX = "_byte"  # of the packed dimension
_NOTE = "packed_bits"  # attribute: how many of the bits count


def pack_bits(ds: xr.Dataset) -> xr.Dataset:
    """Replace every bool array of two dimensions or more by its bits, packed along the last.

    Bits are in the order of `numpy.packbits`; a lazy array stays lazy, and keeps its chunks along the
    other dimensions.
    """
    packed = {name: _pack(v) for name, v in ds.data_vars.items() if v.dtype == bool and v.ndim > 1}
    return ds.assign(packed)


def unpack_bits(ds: xr.Dataset) -> xr.Dataset:
    """Return the arrays that `pack_bits` packed as they were, lazily where they are lazy."""
    return ds.assign({name: _unpack(v) for name, v in ds.data_vars.items() if _NOTE in v.attrs})


def _pack(array: xr.DataArray) -> xr.Variable:
    n = array.shape[-1]
    dims = (*array.dims[:-1], f"{array.dims[-1]}{_SUFFIX}")
    attrs = {**array.attrs, _NOTE: n}
    if array.chunks is None:
        return xr.Variable(dims, np.packbits(array.to_numpy(), axis=-1), attrs)
    data = array.data.rechunk({array.ndim - 1: -1})
    chunks = (*data.chunks[:-1], (math.ceil(n / 8),))
    return xr.Variable(dims, data.map_blocks(np.packbits, axis=-1, dtype=np.uint8, chunks=chunks), attrs)


def _unpack(array: xr.DataArray) -> xr.Variable:
    n = int(array.attrs[_NOTE])
    dims = (*array.dims[:-1], str(array.dims[-1]).removesuffix(_SUFFIX))
    attrs = {k: v for k, v in array.attrs.items() if k != _NOTE}
    if array.chunks is None:
        return xr.Variable(dims, np.unpackbits(array.to_numpy(), axis=-1, count=n).astype(bool), attrs)
    data = array.data.rechunk({array.ndim - 1: -1})
    bits = data.map_blocks(np.unpackbits, axis=-1, count=n, dtype=np.uint8, chunks=(*data.chunks[:-1], (n,)))
    return xr.Variable(dims, bits.astype(bool), attrs)
