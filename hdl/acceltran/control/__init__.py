"""Commands: fetch, decode, semaphores, queues, registers, loop nests."""
