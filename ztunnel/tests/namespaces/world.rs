//! A node in miniature: network namespaces of the test's own, made in a child process that is alone in a
//! network and a mount namespace, so that nothing is left behind however it ends.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use act::net::Netns;

/// Where the pods' namespaces are, by UID.
pub const NETNS: &str = "/run/netns";
/// Longest wait for anything.
pub const SOON: Duration = Duration::from_secs(20);

const ALONE: &str = "WEFT_TEST_ALONE";

/// Runs the body of the test named `test` in namespaces of its own, with tokio.
pub fn alone(test: &str, body: impl AsyncFnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        sh(
            "mount -t tmpfs tmpfs /run && ip link set lo up && ip link add br0 type bridge && ip addr add 10.9.0.1/24 dev br0 && ip link set br0 up",
        );
        if ipv6() {
            sh("ip addr add fd09::1/64 dev br0 nodad");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(body());
        return;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount"]);
    let ran = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, test)
        .output()
        .expect("unshare (util-linux) is installed");
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{test} failed in its own namespaces:\n{said}\n{complained}"
    );
}

/// Runs shell commands; they must succeed.
pub fn sh(script: &str) -> String {
    let ran = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        ran.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

/// Whether this machine has IPv6.
pub fn ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|off| off.trim() == "0")
}

/// A pod: a network namespace on the node's bridge.
#[derive(Clone)]
pub struct PodNet {
    pub uid: &'static str,
    pub v4: IpAddr,
    pub v6: IpAddr,
    pub netns: Netns,
}

impl PodNet {
    /// Makes one; `host` is the last part of its addresses.
    pub fn new(uid: &'static str, host: u8) -> Self {
        sh(&format!(
            "ip netns add {uid}
             ip link add veth{host} type veth peer name eth0 netns {uid}
             ip link set veth{host} master br0 up
             ip -n {uid} link set lo up
             ip -n {uid} link set eth0 up
             ip -n {uid} addr add 10.9.0.{host}/24 dev eth0
             ip -n {uid} route add default via 10.9.0.1"
        ));
        if ipv6() {
            sh(&format!("ip -n {uid} addr add fd09::{host:x}/64 dev eth0 nodad"));
        }
        Self {
            uid,
            v4: Ipv4Addr::new(10, 9, 0, host).into(),
            v6: Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, host.into()).into(),
            netns: Netns::new(File::open(format!("{NETNS}/{uid}")).unwrap().into()),
        }
    }

    pub fn nft(&self) -> String {
        sh(&format!("ip netns exec {} nft list ruleset", self.uid))
    }

    /// A server that greets with its client's address and echoes.
    pub fn serve(&self, port: u16) {
        let listener = self.netns.run(|| listen(port)).unwrap();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || drop(greet_and_echo(socket)));
            }
        });
    }

    /// Connects from inside the pod, and reads the greeting.
    pub fn call(&self, to: SocketAddr) -> io::Result<Call> {
        self.netns.run(|| Call::to(to))
    }
}

/// A server's listener on every address.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(why) if why.kind() == io::ErrorKind::Unsupported || !ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        bound => bound,
    }
}

fn greet_and_echo(mut socket: TcpStream) -> io::Result<()> {
    let from = socket.peer_addr()?.ip().to_canonical();
    socket.write_all(format!("{from}\n").as_bytes())?;
    io::copy(&mut socket.try_clone()?, &mut socket)?;
    Ok(())
}

/// A client's connection to an echo server.
#[derive(Debug)]
pub struct Call {
    socket: BufReader<TcpStream>,
    /// The address the server saw.
    pub seen: String,
}

impl Call {
    /// Connects, and reads the greeting.
    pub fn to(to: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut socket = BufReader::new(socket);
        let mut seen = String::new();
        if socket.read_line(&mut seen)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self {
            socket,
            seen: seen.trim().to_owned(),
        })
    }

    /// Sends something and reads it back.
    pub fn echo(&mut self) -> io::Result<()> {
        self.socket.get_mut().write_all(b"ping")?;
        let mut back = [0; 4];
        self.socket.read_exact(&mut back)?;
        assert_eq!(&back, b"ping");
        Ok(())
    }
}

/// Waits until something holds, without blocking the runtime.
pub async fn until(what: &str, mut law: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !law() {
        assert!(start.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
