//! The real reconciler against an API server in this process.

mod common;

use common::app::{self, NAME};
use common::cluster::Cluster;
use serin_testing::{CANARIES, DEPLOYMENTS, HTTP_ROUTES, SERVICES};

#[tokio::test(start_paused = true)]
async fn probe() {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    println!("{}\n{:?}", cluster.story(), cluster.errors);
    println!("----- good");
    cluster.deploy("web:2");
    cluster.settle().await;
    println!("{}\n{:?}", cluster.story(), cluster.errors);
    println!("----- bad");
    cluster.prometheus.says(common::prometheus::Says::Value(50.0));
    cluster.deploy("web:3");
    cluster.settle().await;
    println!("{}\n{:?}", cluster.story(), cluster.errors);
    println!("----- delete");
    cluster.delete_canary();
    cluster.settle().await;
    println!("{}\n{:?}", cluster.story(), cluster.errors);
    println!("{:#?}", cluster.find(CANARIES, NAME));
}
