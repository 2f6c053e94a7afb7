"""The index of a recording: what a question about neurons or tokens needs, so that none reads the cube.

It lies beside the arrays, under ``actome/index/``, and can be thrown away and built again:

- per site the extremes of every neuron (`extremes`) and its quantiles (`quantiles`);
- the table of prompts and the table of tokens as Parquet (`parquet`);
- a manifest, written last, with the digest of the recording that all this was made from.
"""
