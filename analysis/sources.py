"""The sources that the methods paragraph cites, by key."""

SOURCES: dict[str, str] = {
    "Bengio 2009": "Bengio, Y., Louradour, J., Collobert, R., Weston, J. (2009). Curriculum learning. Proceedings of "
    "the 26th International Conference on Machine Learning, 41-48.",
    "Benjamini 1995": "Benjamini, Y., Hochberg, Y. (1995). Controlling the false discovery rate: a "
    "practical and powerful approach to multiple testing. Journal of the Royal Statistical Society B 57, "
    "289-300.",
    "Breiman 1996": "Breiman, L. (1996). Bagging predictors. Machine Learning 24, 123-140.",
    "Brier 1950": "Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly Weather "
    "Review 78, 1-3.",
    "Broecker 2012": "Bröcker, J. (2012). Estimating reliability and resolution of probability forecasts through "
    "decomposition of the empirical score. Climate Dynamics 39, 655-667.",
    "Brown 1910": "Brown, W. (1910). Some experimental results in the correlation of mental abilities. British "
    "Journal of Psychology 3, 296-322.",
    "Cochran 1950": "Cochran, W. G. (1950). The comparison of percentages in matched samples. Biometrika 37, 256-266.",
    "Cochran 1968": "Cochran, W. G. (1968). The effectiveness of adjustment by subclassification in removing bias in "
    "observational studies. Biometrics 24, 295-313.",
    "Cohen 1960": "Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational and Psychological "
    "Measurement 20, 37-46.",
    "Davison 1997": "Davison, A. C., Hinkley, D. V. (1997). Bootstrap methods and their application. "
    "Cambridge University Press.",
    "Durkalski 2003": "Durkalski, V. L., Palesch, Y. Y., Lipsitz, S. R., Rust, P. F. (2003). Analysis of "
    "clustered matched-pair data. Statistics in Medicine 22, 2417-2428.",
    "Efron 1981": "Efron, B. (1981). Nonparametric standard errors and confidence intervals. Canadian "
    "Journal of Statistics 9, 139-158.",
    "Fleiss 1971": "Fleiss, J. L. (1971). Measuring nominal scale agreement among many raters. Psychological Bulletin "
    "76, 378-382.",
    "Freedman 1983": "Freedman, D., Lane, D. (1983). A nonstochastic interpretation of reported significance levels. "
    "Journal of Business and Economic Statistics 1, 292-298.",
    "Fuglede 2004": "Fuglede, B., Topsoe, F. (2004). Jensen-Shannon divergence and Hilbert space embedding. "
    "Proceedings of the International Symposium on Information Theory, 31.",
    "Gat 2021": "Gat, I., Schwartz, I., Schwing, A. (2021). Perceptual score: What data modalities does your model "
    "perceive? Advances in Neural Information Processing Systems 34. arXiv 2110.14375.",
    "Geifman 2017": "Geifman, Y., El-Yaniv, R. (2017). Selective classification for deep neural networks. Advances "
    "in Neural Information Processing Systems 30, 4878-4887.",
    "Geifman 2019": "Geifman, Y., Uziel, G., El-Yaniv, R. (2019). Bias-reduced uncertainty estimation for deep "
    "neural classifiers. International Conference on Learning Representations.",
    "Geirhos 2020": "Geirhos, R., Meding, K., Wichmann, F. A. (2020). Beyond accuracy: Quantifying trial-by-trial "
    "behaviour of CNNs and humans by measuring error consistency. Advances in Neural Information Processing Systems "
    "33, 13890-13902.",
    "Gwet 2014": "Gwet, K. L. (2014). Handbook of inter-rater reliability, 4th edition. Advanced Analytics.",
    "Hessel 2020": "Hessel, J., Lee, L. (2020). Does my multimodal model learn cross-modal interactions? It's harder "
    "to tell than you might think! Proceedings of EMNLP 2020, 861-877.",
    "Holm 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics 6, 65-70.",
    "Krippendorff 2019": "Krippendorff, K. (2019). Content Analysis: An Introduction to Its Methodology (4th "
    "edition). Sage.",
    "Kumar 2019": "Kumar, A., Liang, P. S., Ma, T. (2019). Verified uncertainty calibration. Advances in Neural "
    "Information Processing Systems 32, 3787-3798.",
    "Lancaster 2018": "Lancaster, G., Iatsenko, D., Pidde, A., Ticcinelli, V., Stefanovska, A. (2018). "
    "Surrogate data for hypothesis testing of physical systems. Physics Reports 748, 1-60.",
    "Lin 1989": "Lin, L. I. (1989). A concordance correlation coefficient to evaluate reproducibility. Biometrics 45, "
    "255-268.",
    "Lin 1991": "Lin, J. (1991). Divergence measures based on the Shannon entropy. IEEE Transactions on Information "
    "Theory 37, 145-151.",
    "MacKinnon 2023": "MacKinnon, J. G., Nielsen, M. O., Webb, M. D. (2023). Fast and reliable jackknife and bootstrap "
    "methods for cluster-robust inference. Journal of Applied Econometrics 38, 671-694.",
    "Miller 1955": "Miller, G. A. (1955). Note on the bias of information estimates. In Quastler, H. (ed.), "
    "Information Theory in Psychology, 95-100. Free Press.",
    "Nadeau 2003": "Nadeau, C., Bengio, Y. (2003). Inference for the generalization error. Machine Learning 52, "
    "239-281.",
    "Obuchowski 1998": "Obuchowski, N. A. (1998). On the comparison of correlated proportions for clustered data. "
    "Statistics in Medicine 17, 1495-1507.",
    "Paninski 2003": "Paninski, L. (2003). Estimation of entropy and mutual information. Neural Computation 15, "
    "1191-1253.",
    "Peterson 2019": "Peterson, J. C., Battleday, R. M., Griffiths, T. L., Russakovsky, O. (2019). Human uncertainty "
    "makes classification more robust. Proceedings of the IEEE/CVF International Conference on Computer Vision, "
    "9617-9626.",
    "Phipson 2010": "Phipson, B., Smyth, G. K. (2010). Permutation p-values should never be zero. "
    "Statistical Applications in Genetics and Molecular Biology 9, 39.",
    "Schapire 1998": "Schapire, R. E., Freund, Y., Bartlett, P., Lee, W. S. (1998). Boosting the margin: A new "
    "explanation for the effectiveness of voting methods. The Annals of Statistics 26, 1651-1686.",
    "Shapley 1953": "Shapley, L. S. (1953). A value for n-person games. Contributions to the Theory of Games 2, "
    "307-317.",
    "Simpson 1949": "Simpson, E. H. (1949). Measurement of diversity. Nature 163, 688.",
    "Spearman 1910": "Spearman, C. (1910). Correlation calculated from faulty data. British Journal of Psychology 3, "
    "271-295.",
    "Srikanth 2025": "Srikanth, M., Chen, R., Hirschberg, J. (2025). Mixed signals: Understanding model disagreement "
    "in multimodal empathy detection. arXiv 2505.13979.",
    "Szekely 2013": "Szekely, G. J., Rizzo, M. L. (2013). Energy statistics: A class of statistics based on distances. "
    "Journal of Statistical Planning and Inference 143, 1249-1272.",
    "Traub 2024": "Traub, J., Bungert, T. J., Lüth, C. T., Baumgartner, M., Maier-Hein, K. H., Maier-Hein, L., "
    "Jaeger, P. F. (2024). Overcoming common flaws in the evaluation of selective classification systems. Advances "
    "in Neural Information Processing Systems 37.",
    "Tukey 1958": "Tukey, J. W. (1958). Bias and confidence in not quite large samples. Annals of Mathematical "
    "Statistics 29, 614.",
    "Winkler 2014": "Winkler, A. M., Ridgway, G. R., Webster, M. A., Smith, S. M., Nichols, T. E. (2014). "
    "Permutation inference for the general linear model. NeuroImage 92, 381-397.",
    "Winkler 2015": "Winkler, A. M., Webster, M. A., Vidaurre, D., Nichols, T. E., Smith, S. M. (2015). Multi-level "
    "block permutation. NeuroImage 123, 253-268.",
    "Zou 2008": "Zou, G. Y., Donner, A. (2008). Construction of confidence limits about effect measures: A general "
    "approach. Statistics in Medicine 27, 1693-1702.",
}
