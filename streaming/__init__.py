"""The asyncio shell: the only clock, tasks, threads and network of livedub."""
