"""What a report says to do next: which variant to deploy, and what would help where one did not pass.

Pure: the same report and recipe give the same advice, and nothing is advised that the report shows failing.
"""

from exporter.advice.advise import advice
from exporter.advice.deploy import deploy
from exporter.advice.tip import Commands, Tip

__all__ = ["Commands", "Tip", "advice", "deploy"]
