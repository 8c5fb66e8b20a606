"""The sources that the methods paragraph cites, by key."""

SOURCES: dict[str, str] = {
    "Lin 1991": "Lin, J. (1991). Divergence measures based on the Shannon entropy. IEEE Transactions on Information "
    "Theory 37, 145-151.",
    "MacKinnon 2023": "MacKinnon, J. G., Nielsen, M. O., Webb, M. D. (2023). Fast and reliable jackknife and bootstrap "
    "methods for cluster-robust inference. Journal of Applied Econometrics 38, 671-694.",
    "Simpson 1949": "Simpson, E. H. (1949). Measurement of diversity. Nature 163, 688.",
    "Srikanth 2025": "Srikanth, M., Chen, R., Hirschberg, J. (2025). Mixed signals: Understanding model disagreement "
    "in multimodal empathy detection. arXiv 2505.13979.",
}
