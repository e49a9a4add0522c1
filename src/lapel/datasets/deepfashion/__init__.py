"""DeepFashion's benchmarks (Liu et al. 2016, CUHK MMLab): In-shop, Category and Attribute, Consumer-to-shop."""
