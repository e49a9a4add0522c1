"""The installed commands: their lines, their terminal, and Hydra behind those that train, evaluate and export."""
