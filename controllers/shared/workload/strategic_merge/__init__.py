"""Strategic merge patch for pod templates, as the API server and kubectl apply it.

A `podTemplateSpec` is laid over the generated template with the semantics of Kubernetes' strategic merge patch
(sig-api-machinery/strategic-merge-patch.md in kubernetes/community): maps merge, lists with a merge key merge by
that key, other lists are replaced, null deletes, and the directives `$patch`, `$retainKeys`,
`$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>` are honoured. The oracle of the tests is
`kubectl patch --local --type=strategic`.
"""

from controllers.shared.workload.strategic_merge.merge import StrategicMergeError, strategic_merge
from controllers.shared.workload.strategic_merge.schema import POD_TEMPLATE_SPEC, ListRule, PatchSchema

__all__ = ["POD_TEMPLATE_SPEC", "ListRule", "PatchSchema", "StrategicMergeError", "strategic_merge"]
