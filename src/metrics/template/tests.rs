use super::*;
use proptest::prelude::*;

fn variables() -> Variables {
    Variables {
        name: "web".into(),
        namespace: "shop".into(),
        target: "web-app".into(),
        service: "web-svc".into(),
        ingress: "web-ing".into(),
        route: "web-route".into(),
        interval: "60s".into(),
        variables: [("reporter", "destination"), ("my-key", "a|b\"c")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

fn rendered(template: &str) -> String {
    render(template, &variables()).unwrap()
}

fn refused(template: &str) -> String {
    render(template, &variables()).unwrap_err().to_string()
}

#[test]
fn the_variables_of_flagger_work() {
    let all = "{{ name }} {{ namespace }} {{ target }} {{ service }} {{ ingress }} {{ route }} {{ interval }}";
    assert_eq!(rendered(all), "web shop web-app web-svc web-ing web-route 60s");
    assert_eq!(rendered("{{variables.reporter}}"), "destination");
}

#[test]
fn a_query_of_flaggers_documentation_works_unchanged() {
    let template = r#"
    100 - sum(
        rate(
            istio_requests_total{
              reporter="{{ variables.reporter }}",
              destination_workload_namespace="{{- namespace -}}",
              destination_workload="{{ target }}",
              response_code!="404"
            }[{{ interval }}]
        )
    ) * 100
"#;
    let query = rendered(template);
    assert!(query.contains(r#"destination_workload_namespace="shop","#), "{query}");
    assert!(query.contains(r#"destination_workload="web-app","#), "{query}");
    assert!(query.contains("}[60s]\n"), "{query}");
}

#[test]
fn own_variables_are_verbatim_unless_a_filter_is_asked_for() {
    assert_eq!(rendered("{{ variables['my-key'] }}"), "a|b\"c");
    assert_eq!(rendered("{{ variables['my-key'] | escape }}"), "a|b\\\"c");
    assert_eq!(rendered("{{ variables['my-key'] | regex }}"), "a\\\\|b\\\"c");
    assert_eq!(rendered("{{ variables.missing | default('x') }}"), "x");
    assert_eq!(rendered("{{ 'a' if variables.reporter == 'destination' else 'b' }}"), "a");
}

#[test]
fn html_is_not_escaped() {
    assert_eq!(rendered("a < 1 {{ '<&>' }}"), "a < 1 <&>");
}

#[test]
fn an_unknown_variable_is_named_with_all_that_exist() {
    insta::assert_snapshot!(refused("x{{ variables.missing }}"), @"the query template uses variables.missing, which does not exist; it can use name, namespace, target, service, ingress, route, interval, variables.my-key, variables.reporter");
    insta::assert_snapshot!(refused("{{ nmae }}"), @"the query template uses nmae, which does not exist; it can use name, namespace, target, service, ingress, route, interval, variables.my-key, variables.reporter");
    assert!(refused("{{ variables['gone'] }}").contains("uses variables['gone'],"));
    assert!(refused("{{ nmae | escape }}").contains("uses nmae,"), "{}", refused("{{ nmae | escape }}"));
    assert!(refused("{{ a.b.c }}").contains("uses a.b.c,"), "{}", refused("{{ a.b.c }}"));
}

#[test]
fn what_is_not_an_expression_is_shown_with_a_remedy() {
    insta::assert_snapshot!(refused("{{ variables }}"), @r#"the query template has "variables" between {{ and }}, which is a map; write a single value, such as variables.name"#);
    insta::assert_snapshot!(refused("{{ namespace() }}"), @r#"the query template has "namespace()" between {{ and }}, which cannot be evaluated (value of type string is not callable); write a variable such as namespace"#);
    insta::assert_snapshot!(refused("{{ printf \"%s\" namespace }}"), @r#"the query template has "printf \"%s\" namespace" between {{ and }}, which cannot be evaluated (unexpected input after expression); write a variable such as namespace"#);
    insta::assert_snapshot!(refused("{{ 2 * 3 }}"), @r#"the query template has "2 * 3" between {{ and }}, which holds '*'; write a variable, perhaps with a filter behind a |"#);
    insta::assert_snapshot!(refused("{{ namespace"), @r#"the query template has a {{ without }}; close it behind "namespace""#);
    insta::assert_snapshot!(refused("{{ }}"), @r#"the query template has "" between {{ and }}, which is nothing; write a variable such as namespace"#);
    insta::assert_snapshot!(refused("{{ name | upper }}"), @r#"the query template has "name | upper" between {{ and }}, which cannot be evaluated (filter upper is unknown); write a variable such as namespace"#);
}

#[test]
fn costs_are_bounded() {
    assert_eq!(render(&"x".repeat(MAX_QUERY_BYTES + 1), &variables()), Err(InvalidTemplate::TooLong));
    let mut large = variables();
    large.variables.insert("large".into(), ".".repeat(MAX_QUERY_BYTES / 2));
    assert_eq!(render(&"{{ variables.large }}".repeat(3), &large), Err(InvalidTemplate::TooLong));
    for count in [20, 5_000] {
        assert!(render(&format!("{{{{ {} }}}}", "(".repeat(count)), &large).is_err());
        assert!(render(&format!("{{{{ {}name }}}}", "not ".repeat(count)), &large).is_err());
        assert!(render(&format!("{{{{ variables.large{} }}}}", "|regex".repeat(count)), &large).is_err());
    }
}

#[test]
fn a_name_that_would_end_its_string_is_refused() {
    for letter in ['"', '\'', '`', '\\', '\n'] {
        let service = format!("web{letter}");
        let error = render("", &Variables { service, ..variables() }).unwrap_err();
        assert_eq!(error, InvalidTemplate::UnsafeName { name: "service" });
    }
}

proptest! {
    #[test]
    fn no_template_panics(template in any::<String>(), expression in "[ -~]{0,40}") {
        let _ = render(&template, &variables());
        let _ = render(&format!("{{{{{expression}}}}}"), &variables());
    }

    #[test]
    fn text_without_expressions_is_unchanged(text in "[^{]{0,200}") {
        prop_assert_eq!(rendered(&text), text);
    }
}
