"""Hardware to samples. Each source reads one kind of hardware; all of them block and none of them knows asyncio."""
