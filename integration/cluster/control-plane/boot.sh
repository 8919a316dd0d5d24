# Powers the cluster on: the switch its machines are plugged into, with the control plane's own addresses on it, and the
# way to each node's pods. Then becomes the cluster's first process; killing that powers everything off.
mkdir -p /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/netns
ip link set lo up
ip link add switch type bridge
ip addr add {V4}/24 dev switch
ip addr add {V6}/64 dev switch nodad
ip link set switch up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
{ROUTES}
exec '{PROGRAM}' machine '{SPEC}' '{SOCKET}'
