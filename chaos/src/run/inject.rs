//! Carries out the schedule: one fault after the other, each overcome before the next.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::disk::{Errno, Operation};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::history::{At, Drained, Recorder, Span};
use crate::net::{Condition, Net};
use crate::run::schedule::{Fault, Planned, Schedule};

/// Until a client succeeds at every node again: longer than any rejoin on a busy machine.
const RECOVERED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
const SLOW: Condition = Condition { delay: Duration::from_millis(120), ..Condition::GOOD };
const LOSSY: Condition = Condition { loss: 0.05, ..Condition::GOOD };
/// Longer than an election takes.
const ELECTION: Duration = Duration::from_millis(1_500);
/// How long a flapping link is in one state.
const FLAP: Duration = Duration::from_millis(300);

pub struct Injector {
    pub(super) recorder: Arc<Recorder>,
    storm: Arc<watch::Sender<u64>>,
    current: Arc<Mutex<String>>,
    /// How many nodes clients go to.
    pub(super) nodes: Arc<AtomicUsize>,
    /// Seconds by which a clock jumps.
    jump: i64,
}

impl Injector {
    pub fn new(recorder: &Arc<Recorder>, storm: Arc<watch::Sender<u64>>, nodes: Arc<AtomicUsize>, jump: i64) -> Self {
        Self { recorder: Arc::clone(recorder), storm, current: Arc::new(Mutex::new("no fault".into())), nodes, jump }
    }

    /// What is being done now, in words.
    pub fn current(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.current)
    }

    /// # Errors
    /// A node ended unasked or not as it should, or the cluster did not recover.
    pub async fn inject(&self, cluster: &mut Cluster, schedule: Schedule, time: Duration) -> Result<(), String> {
        self.recovered(cluster, self.recorder.now()).await?;
        let begun = self.recorder.now();
        for planned in schedule {
            tokio::time::sleep(planned.quiet).await;
            if self.recorder.now() - begun >= time {
                return Ok(());
            }
            for node in 0..cluster.size() {
                cluster.still_runs(node)?;
            }
            let from = self.recorder.now();
            let nodes = victims(cluster, &planned).await?;
            self.say(format!("{} {nodes:?} for {:.1} s", planned.fault.name(), planned.lasts.as_secs_f32()));
            self.hurt(cluster, &planned, &nodes).await?;
            let healed = self.recorder.now();
            self.say(format!("recovering from {}", planned.fault.name()));
            self.recovered(cluster, healed).await.map_err(|late| format!("after {}: {late}", planned.fault.name()))?;
            let span = Span { fault: planned.fault, nodes, from, healed, over: self.recorder.now() };
            self.recorder.add(|history| history.spans.push(span));
            "no fault".clone_into(&mut self.current.lock());
        }
        Err("there is no fault that fits".into())
    }

    pub(super) fn say(&self, what: String) {
        eprintln!("chaos: {:6.1} s  {what}", self.recorder.now().as_secs_f32());
        *self.current.lock() = what;
    }

    /// Until all nodes are ready and a client that began after the healing has succeeded at each of them.
    async fn recovered(&self, cluster: &mut Cluster, healed: At) -> Result<(), String> {
        cluster.all_ready().await?;
        loop {
            let behind = self.recorder.look(|history| {
                let recent = || history.probes.iter().rev().take_while(|probe| probe.ended >= healed);
                let served = |node: &usize| recent().any(|it| it.node == *node && it.succeeded && it.from >= healed);
                (0..cluster.size()).find(|node| !served(node))
            });
            let Some(node) = behind else { return Ok(()) };
            if self.recorder.now() > healed + RECOVERED {
                return Err(format!("no client succeeds at node-{node} within {RECOVERED:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn hurt(&self, cluster: &mut Cluster, planned: &Planned, nodes: &[usize]) -> Result<(), String> {
        match planned.fault {
            Fault::Kill | Fault::KillAll => {
                nodes.iter().try_for_each(|&node| cluster.kill(node))?;
                tokio::time::sleep(planned.lasts).await;
                nodes.iter().try_for_each(|&node| cluster.spawn(node))
            }
            Fault::Pause | Fault::LongPause => {
                nodes.iter().try_for_each(|&node| cluster.pause(node))?;
                tokio::time::sleep(planned.lasts).await;
                nodes.iter().try_for_each(|&node| cluster.resume(node))
            }
            Fault::Partition
            | Fault::PartitionLeader
            | Fault::OneWay
            | Fault::CutPair
            | Fault::Flap
            | Fault::Slow
            | Fault::Lossy => {
                let size = cluster.size();
                let net = cluster.net().ok_or("there is no network to break")?;
                break_network(net, size, planned, nodes).await;
                net.heal();
                Ok(())
            }
            Fault::ClockJump => jump(cluster, planned, nodes, self.jump).await,
            Fault::RollingRestart => self.roll(cluster, planned).await,
            Fault::Join => self.join_and_remove(cluster, planned).await,
            Fault::Replace => self.replace(cluster, nodes[0], planned.lasts).await,
            Fault::Storm => {
                self.storm.send_modify(|storms| *storms += 1);
                tokio::time::sleep(planned.lasts).await;
                Ok(())
            }
            Fault::DiskFull => {
                for &node in nodes {
                    let trouble = cluster.trouble(node).ok_or("the disks cannot be made to fail")?.clone();
                    trouble.begin(Operation::Write, Errno::Full);
                    tokio::time::sleep(planned.lasts).await;
                    // A node may end when its disk fails; most go on without their connections.
                    cluster.kill(node)?;
                    trouble.end();
                    cluster.spawn(node)?;
                }
                Ok(())
            }
        }
    }

    async fn roll(&self, cluster: &mut Cluster, planned: &Planned) -> Result<(), String> {
        for &node in &planned.order {
            let from = self.recorder.now();
            cluster.drain(node).await?;
            let drained = Drained { node, from, exited: self.recorder.now() };
            self.recorder.add(|history| history.drains.push(drained));
            cluster.spawn(node)?;
            cluster.all_ready().await?;
            tokio::time::sleep(planned.lasts).await;
        }
        Ok(())
    }
}

/// The clock jumps, and somebody else is made leader, who then says what time it is.
async fn jump(cluster: &Cluster, planned: &Planned, nodes: &[usize], jump: i64) -> Result<(), String> {
    let set = |node: &usize, seconds| {
        cluster.clock(*node).map(|clock| clock.set(seconds)).ok_or("the clocks cannot be made to jump")
    };
    nodes.iter().try_for_each(|node| set(node, if planned.turned { jump } else { -jump }))?;
    tokio::time::sleep(planned.lasts / 2).await;
    let net = cluster.net().ok_or("there is no network to break")?;
    net.set_around(leader(cluster).await?, Condition::CUT);
    tokio::time::sleep(ELECTION).await;
    net.heal();
    tokio::time::sleep(planned.lasts / 2).await;
    nodes.iter().try_for_each(|node| set(node, 0))?;
    Ok(())
}

/// The nodes that it is done to.
async fn victims(cluster: &Cluster, planned: &Planned) -> Result<Vec<usize>, String> {
    Ok(match planned.fault {
        Fault::Kill | Fault::Pause | Fault::LongPause | Fault::DiskFull | Fault::ClockJump => {
            planned.order[..planned.count].to_vec()
        }
        Fault::Partition | Fault::OneWay | Fault::Flap | Fault::Slow | Fault::Replace => vec![planned.order[0]],
        Fault::Join => vec![cluster.guest()],
        Fault::CutPair => planned.order[..2].to_vec(),
        Fault::PartitionLeader => vec![leader(cluster).await?],
        Fault::KillAll | Fault::Lossy | Fault::RollingRestart | Fault::Storm => planned.order.clone(),
    })
}

async fn leader(cluster: &Cluster) -> Result<usize, String> {
    // An election may be under way: then any node may be about to lead.
    Ok(cluster.leader().await?.unwrap_or(0))
}

async fn break_network(net: &Net, size: usize, planned: &Planned, nodes: &[usize]) {
    let victim = nodes[0];
    let others = (0..size).filter(|&other| other != victim);
    match planned.fault {
        Fault::OneWay => {
            for other in others {
                let (from, to) = if planned.turned { (victim, other) } else { (other, victim) };
                net.set(from, to, Condition::CUT);
            }
        }
        Fault::CutPair => net.set_pair(victim, nodes[1], Condition::CUT),
        Fault::Slow => net.set_around(victim, SLOW),
        Fault::Lossy => (0..size).for_each(|node| net.set_around(node, LOSSY)),
        Fault::Flap => {
            let until = tokio::time::Instant::now() + planned.lasts;
            while tokio::time::Instant::now() < until {
                net.set_around(victim, Condition::CUT);
                tokio::time::sleep(FLAP).await;
                net.heal();
                tokio::time::sleep(FLAP).await;
            }
            return;
        }
        Fault::Partition
        | Fault::PartitionLeader
        | Fault::Kill
        | Fault::KillAll
        | Fault::Pause
        | Fault::LongPause
        | Fault::RollingRestart
        | Fault::Storm
        | Fault::DiskFull
        | Fault::ClockJump
        | Fault::Join
        | Fault::Replace => net.set_around(victim, Condition::CUT),
    }
    tokio::time::sleep(planned.lasts).await;
}
