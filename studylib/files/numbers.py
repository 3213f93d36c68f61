"""Numbers of settings, each within its range; a device."""

from typing import Annotated

from pydantic import Field

NotNegative = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(gt=0, lt=2**63)]
Threads = Annotated[int, Field(ge=0, le=1024)]  # 0: as many as there are cores
Seconds = Annotated[float, Field(gt=0, le=3600)]
CropSeconds = Annotated[float, Field(ge=0.5, le=600)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")]
