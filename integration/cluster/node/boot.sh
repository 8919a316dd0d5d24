# Powers {NODE} on: wires a new network namespace to the cluster's switch, then becomes the node's first process in
# process, mount and host name namespaces of its own. Run in the control plane's machine; killing it powers the node off.
ip link del {NODE} 2>/dev/null || true
ip netns del {NODE} 2>/dev/null || true
ip netns add {NODE}
ip link add {NODE} type veth peer name eth0 netns {NODE}
ip link set {NODE} master switch up
ip -n {NODE} link set lo up
ip -n {NODE} addr add {V4}/24 dev eth0
ip -n {NODE} addr add {V6}/64 dev eth0 nodad
ip -n {NODE} link set eth0 up
# The default route ends at the control plane, which has none: nothing leads out of the cluster, and what asks for an
# address outside is told so at once.
{ROUTES}
# What crosses a bridge passes the packet filter too, else the answer of a Service's pod to its neighbour keeps the
# pod's own address.
nsenter --net=/run/netns/{NODE} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
exec nsenter --net=/run/netns/{NODE} -- \
    unshare --mount --pid --uts --fork --kill-child -- '{PROGRAM}' machine '{SPEC}' '{SOCKET}'
