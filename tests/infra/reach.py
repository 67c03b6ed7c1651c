"""Who may reach whom, told from network policies alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_network


class World:
    """Who may talk to whom, as a network plugin decides it from the policies alone."""

    def __init__(self, policies):
        self.policies = policies

    def may(self, caller, listener, port, *, caller_pods=None, listener_pods=None, protocol="TCP"):
        """Both halves allow it: out of the caller's namespace and into the listener's. A name of neither is outside."""
        out = self._half("Egress", caller, caller_pods, listener, listener_pods, port, protocol)
        return out and self._half("Ingress", listener, listener_pods, caller, caller_pods, port, protocol)

    def _half(self, kind, here, labels, there, there_labels, port, protocol):
        key = kind.lower()
        chosen = [p["spec"] for p in self.policies.get(here, []) if kind in p["spec"]["policyTypes"]]
        chosen = [s for s in chosen if _selects(s["podSelector"], labels)]
        if not chosen:
            return True
        rules = [rule for spec in chosen for rule in spec.get(key, [])]
        return any(self._matches(r, kind, there, there_labels, port, protocol) for r in rules)

    def _matches(self, rule, kind, there, labels, port, protocol):
        ports = rule.get("ports")
        if ports and {"port": port, "protocol": protocol} not in ports:
            return False
        peers = rule["from" if kind == "Ingress" else "to"]
        return any(self._is(peer, there, labels) for peer in peers)

    def _is(self, peer, there, labels):
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if not there[0].isdigit() or ip_address(there) not in ip_network(block["cidr"]):
                return False
            return not any(ip_address(there) in ip_network(net) for net in block.get("except", ()))
        return peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": there}


def _selects(selector, labels):
    return selector.get("matchLabels", {}).items() <= (labels or {}).items()
