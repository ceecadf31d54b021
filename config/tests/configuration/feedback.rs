//! Load feedback: what is accepted, and every refusal.

use crate::common::{VALID, refusals, spoil};
use shunt_config::{Agent, Algorithm, Config, Feedback, Network};

const FEEDBACK: &str = r#"[feedback]
listen = "198.18.1.1:7946"
[[agent]]
name = "server1"
key_file = "/etc/shunt/server1.key"
backends = ["b1"]
"#;

/// [`VALID`] with line 22 (of service web) replaced, and `end` after its last line, 40.
fn web(line: &str, end: &str) -> String {
    spoil(&[(22, line)]) + end
}

/// What is wrong, without `shunt.toml:`.
fn found(text: &str) -> Vec<String> {
    refusals(text).iter().map(|refusal| refusal.trim_start_matches("shunt.toml:").to_owned()).collect()
}

#[test]
fn without_a_word_about_it_nothing_reports_and_weights_are_static() {
    let config = Config::parse(VALID, "shunt.toml").expect("good");
    assert_eq!(config.feedback, Feedback::default());
    let web = &config.services[0];
    assert_eq!((web.algorithm, web.rules.len(), &web.agent_check), (Algorithm::Static, 0, &None));
}

#[test]
fn agents_and_algorithms() {
    let config = Config::parse(&web("algorithm = \"even\"", FEEDBACK), "shunt.toml").expect("good");
    assert_eq!(config.services[0].algorithm, Algorithm::Even);
    assert_eq!(config.feedback.listen, "198.18.1.1:7946".parse().ok());
    let agent =
        Agent { name: "server1".into(), key_file: "/etc/shunt/server1.key".into(), backends: vec!["b1".into()] };
    assert_eq!(config.feedback.agents, [agent]);
    for (word, algorithm) in Algorithm::WORDS {
        let config = Config::parse(&web(&format!("algorithm = {word:?}"), FEEDBACK), "shunt.toml").expect("good");
        assert_eq!((config.services[0].algorithm, algorithm.word()), (algorithm, word));
    }
}

#[test]
fn a_back_end_s_workers_are_a_number_and_the_same_in_every_service() {
    let with = |workers: &str| web("", "").replacen("weight = 2", &format!("weight = 2\nworkers = {workers}"), 1);
    let config = Config::parse(&with("4"), "shunt.toml").expect("good");
    assert_eq!(config.services[0].backends.iter().map(|backend| backend.workers).collect::<Vec<_>>(), [None, Some(4)]);
    let place = "33: service.web.backend.b2.workers: ";
    assert_eq!(found(&with("0")), [format!("{place}is 0; write a whole number from 1 to 1000000")]);
    let other = |workers: &str| {
        let backend = r#"backend = [{ name = "b2", address = "198.18.1.12:8080", workers = NUMBER }]"#;
        let service =
            "[[service]]\nname = \"other\"\naddress = \"198.18.0.109:80\"\nprotocol = \"tcp\"\nmode = \"nat\"\n";
        format!("{}\n{service}{}\n", with("4"), backend.replace("NUMBER", workers))
    };
    assert_eq!(found(&other("4")), [""; 0]);
    let [refusal] = &found(&other("5"))[..] else { panic!("one refusal") };
    assert!(refusal.contains("backend.b2.workers: is 5, but 4 for the same back-end in line 33; write"), "{refusal}");
}

#[test]
fn rules_name_back_ends_or_what_they_need() {
    let rules =
        "rule = [{ clients = [\"198.18.64.0/18\", \"198.18.9.9\"], backends = [\"b2\"] }, { needs = [\"gpu\"] }]";
    let text = web(rules, "").replacen("weight = 2", "weight = 2\ncapabilities = [\"gpu\", \"ssd\"]", 1);
    let config = Config::parse(&text, "shunt.toml").expect("good");
    let [first, second] = &config.services[0].rules[..] else { panic!("two rules") };
    let clients: Vec<String> = first.clients.iter().map(Network::to_string).collect();
    assert_eq!(clients, ["198.18.64.0/18", "198.18.9.9/32"]);
    assert_eq!((&second.clients[..], &second.backends[..]), (&[Network::ALL][..], &["b2".to_owned()][..]));
}

#[test]
fn a_rule_takes_slots_of_its_own() {
    let rule =
        |number: usize| web(&format!("slots = 4099\nrule = [{}]", "{ backends = [\"b1\"] },".repeat(number)), "");
    let room = |text: String| text.replacen("[limits]", "[limits]\nslots = 10000", 1);
    assert_eq!(found(&room(rule(1))), [""; 0]);
    let expected = "23: service.web.slots: brings all tables to 12297 slots, more than limits.slots, 10000; raise limits.slots to 13318, or choose smaller tables";
    assert_eq!(found(&room(rule(2))), [expected]);
}

#[test]
fn wrong_rules_are_refused() {
    let cases = [
        (
            "rule = [{ clients = [\"198.18.1.0/16\"], backends = [\"b1\"] }]",
            r#"22: service.web.rule[0].clients[0]: "198.18.1.0/16" has bits set beyond its prefix; write "198.18.0.0/16""#,
        ),
        (
            "rule = [{ clients = [\"x\"], backends = [\"b1\"] }]",
            r#"22: service.web.rule[0].clients[0]: "x" is not a network; write for example "198.18.0.0/16""#,
        ),
        (
            "rule = [{ clients = [\"2001:db8::/32\"], backends = [\"b1\"] }]",
            r#"22: service.web.rule[0].clients[0]: "2001:db8::/32" can't be used: IPv6 clients are not supported yet; write for example "198.18.0.0/16""#,
        ),
        (
            "rule = [{ backends = [\"ns1\"] }]",
            r#"22: service.web.rule[0].backends[0]: "ns1" is no back-end of this service; write the name of one"#,
        ),
        (
            "rule = [{ backends = [] }]",
            "22: service.web.rule[0].backends: is empty; name the back-ends that these clients go to",
        ),
        ("rule = [{ backends = [1] }]", "22: service.web.rule[0].backends[0]: is 1; write a string in quotation marks"),
        (
            "rule = [{ backends = [\"b1\"], needs = [\"gpu\"] }]",
            "22: service.web.rule[0].needs: stands beside backends, which says the same; write one of both",
        ),
        (
            "rule = [{ needs = [\"gpu\"] }]",
            r#"22: service.web.rule[0].needs: no back-end of this service has "gpu"; write it into a back-end's capabilities"#,
        ),
        (
            "rule = [{ clients = [\"198.18.0.0/16\"] }]",
            "22: service.web.rule[0].backends: is missing; write for example backends = [\"b1\"], or needs = [\"gpu\"]",
        ),
    ];
    for (rule, expected) in cases {
        // A list with a mistake is as good as none, which may bring another refusal after the first.
        assert_eq!(found(&web(rule, ""))[0], expected, "{rule}");
    }
}

#[test]
fn wrong_feedback_is_refused() {
    let cases = [
        (
            "198.18.1.1:7946",
            "198.18.1.1",
            "42: feedback.listen: \"198.18.1.1\" is not an address and port of this machine; write for example \"198.18.1.1:7946\"",
        ),
        (
            "listen = \"198.18.1.1:7946\"\n",
            "",
            "42: agent.server1: has nowhere to send its reports; write [feedback] with listen = \"198.18.1.1:7946\"",
        ),
        ("/etc/shunt/", "", "45: agent.server1.key_file: \"server1.key\" doesn't begin with '/'; write the whole path"),
        (
            "\"b1\"",
            "\"b9\"",
            "46: agent.server1.backends[0]: \"b9\" is no back-end of any service; write the name of one",
        ),
        (
            "\"b1\"",
            "\"b1\", \"b1\"",
            "46: agent.server1.backends[1]: \"b1\" is reported about already, in line 46; name it once",
        ),
        ("[\"b1\"]", "[]", "46: agent.server1.backends: is empty; name the back-ends that it reports about"),
        ("[\"b1\"]", "\"b1\"", "46: agent.server1.backends: is the string \"b1\"; write a list, for example [\"b1\"]"),
        (
            "[[agent]]",
            "silence_ms = 1\n[[agent]]",
            "43: feedback.silence_ms: is 1; write a whole number from 100 to 3600000",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(found(&web("", &FEEDBACK.replacen(from, to, 1)))[0], expected, "{to}");
    }
    let alone = &FEEDBACK[..FEEDBACK.find("[[agent]]").expect("an agent")];
    let expected = "41: feedback.listen: waits for reports that nobody may send; write an [[agent]] table";
    assert_eq!(found(&web("", alone)), [expected]);
    let twice = format!("{FEEDBACK}{}", &FEEDBACK[alone.len()..].replace("b1", "b2"));
    let expected = "48: agent.server1.name: \"server1\" is another agent's name, in line 44; change one of both";
    assert_eq!(found(&web("", &twice)), [expected]);
}

#[test]
fn even_without_reports_is_refused() {
    let expected = "22: service.web.algorithm: \"even\" does nothing where no agent reports about a back-end of the service; write an [[agent]] table, or algorithm = \"static\"";
    assert_eq!(found(&web("algorithm = \"even\"", "")), [expected]);
    assert_eq!(found(&web("algorithm = \"even\"", &FEEDBACK.replace("b1", "ns1"))), [expected]);
    assert_eq!(found(&web("algorithm = \"even\"\nagent_check = { port = 9777 }", "")), [""; 0]);
    let unknown = r#"22: service.web.algorithm: "fair" is unknown; write one of "static", "even", "lightest", "least-connections", "latency", "source-hash""#;
    assert_eq!(found(&web("algorithm = \"fair\"", "")), [unknown]);
    let no_port = "22: service.web.agent_check.port: is missing; write for example port = 9777";
    assert_eq!(found(&web("agent_check = {}", "")), [no_port]);
}
