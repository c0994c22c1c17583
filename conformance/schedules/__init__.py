"""The conformance of learning-rate schedulers: whole curves in exact arithmetic, and wrong schedules, all rejected."""

from refoptim.conformance.schedules.exam import plan as plan
from refoptim.conformance.schedules.exam import rows as rows
from refoptim.conformance.schedules.mutation import examine as examine
from refoptim.conformance.schedules.mutation import exams as exams
from refoptim.conformance.schedules.mutation import mutants as mutants
from refoptim.conformance.schedules.report import as_json as as_json
from refoptim.conformance.schedules.report import text as text
