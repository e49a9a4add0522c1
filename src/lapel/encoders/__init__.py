"""The network from uint8 images to embeddings: its trunk, pooling and head, and embeddings of catalogue rows."""
