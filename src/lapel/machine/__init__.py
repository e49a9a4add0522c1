"""What a process finds on its machine: devices, cores, the launcher that started it, versions."""
