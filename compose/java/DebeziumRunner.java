import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.Converter;

/**
 * DebeziumRunner MYSQL_PORT KAFKA STATE_DIR [name=value ...]: Debezium's engine, its changes produced as Kafka Connect would.
 *
 * <p>Own settings: runner.partitions (1) of the topics it makes, runner.converter, the class of both converters, with
 * their settings under key.converter. and value.converter. All others go to Debezium.
 */
public class DebeziumRunner {
  public static void main(String[] arguments) throws Exception {
    String kafka = arguments[1];
    Properties settings = defaults(arguments[0], arguments[2]);
    for (String argument : List.of(arguments).subList(3, arguments.length)) {
      int equals = argument.indexOf('=');
      settings.put(argument.substring(0, equals), argument.substring(equals + 1));
    }
    Topics topics = new Topics(kafka, Integer.parseInt(settings.remove("runner.partitions").toString()));
    String converter = settings.remove("runner.converter").toString();
    Converter keys = converter(converter, settings, true);
    Converter values = converter(converter, settings, false);
    KafkaProducer<byte[], byte[]> producer = producer(kafka);
    DebeziumEngine<ChangeEvent<SourceRecord, SourceRecord>> engine = DebeziumEngine.create(Connect.class)
        .using(settings)
        .using((success, message, error) -> {
          System.err.println("engine ended: " + message + (error == null ? "" : " " + error));
          Runtime.getRuntime().halt(success ? 0 : 1);
        })
        .notifying((records, committer) -> {
          // A change is marked as read only when Kafka has it.
          Future<RecordMetadata> last = null;
          for (ChangeEvent<SourceRecord, SourceRecord> event : records) {
            SourceRecord record = event.value();
            topics.make(record.topic());
            byte[] key = keys.fromConnectData(record.topic(), record.keySchema(), record.key());
            byte[] value = values.fromConnectData(record.topic(), record.valueSchema(), record.value());
            last = producer.send(new ProducerRecord<>(record.topic(), key, value));
          }
          producer.flush();
          try {
            if (last != null) last.get();
          } catch (ExecutionException e) {
            throw new RuntimeException(e.getCause());
          }
          for (ChangeEvent<SourceRecord, SourceRecord> record : records) committer.markProcessed(record);
          committer.markBatchFinished();
        })
        .build();
    Thread thread = new Thread(engine, "engine");
    thread.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        engine.close();
        thread.join();
      } catch (Exception e) {
        System.err.println("while closing: " + e);
      }
    }));
    thread.join();
  }

  private static Properties defaults(String port, String state) {
    Properties p = new Properties();
    p.put("name", "tidemill");
    p.put("connector.class", "io.debezium.connector.mysql.MySqlConnector");
    p.put("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
    p.put("offset.storage.file.filename", state + "/offsets");
    p.put("offset.flush.interval.ms", "200");
    p.put("schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory");
    p.put("schema.history.internal.file.filename", state + "/history");
    p.put("database.hostname", "127.0.0.1");
    p.put("database.port", port);
    p.put("database.user", "root");
    p.put("database.password", "");
    p.put("database.server.id", "8181");
    p.put("topic.prefix", "dbz");
    p.put("poll.interval.ms", "50");
    p.put("provide.transaction.metadata", "true");
    p.put("snapshot.mode", "initial");
    p.put("key.converter.schemas.enable", "true");
    p.put("value.converter.schemas.enable", "true");
    p.put("runner.partitions", "1");
    p.put("runner.converter", "org.apache.kafka.connect.json.JsonConverter");
    return p;
  }

  private static Converter converter(String name, Properties settings, boolean isKey) throws Exception {
    String prefix = isKey ? "key.converter." : "value.converter.";
    Map<String, Object> own = new HashMap<>();
    for (String setting : settings.stringPropertyNames()) {
      if (setting.startsWith(prefix)) own.put(setting.substring(prefix.length()), settings.getProperty(setting));
    }
    Converter converter = (Converter) Class.forName(name).getDeclaredConstructor().newInstance();
    converter.configure(own, isKey);
    return converter;
  }

  private static KafkaProducer<byte[], byte[]> producer(String kafka) {
    Properties p = new Properties();
    p.put("bootstrap.servers", kafka);
    p.put("enable.idempotence", "true");
    p.put("linger.ms", "5");
    p.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    p.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    return new KafkaProducer<>(p);
  }

  /** Makes a topic before its first record, as Connect does. */
  private static class Topics {
    private final Admin admin;
    private final int partitions;
    private final Set<String> made = new HashSet<>();

    Topics(String kafka, int partitions) {
      Properties p = new Properties();
      p.put("bootstrap.servers", kafka);
      this.admin = Admin.create(p);
      this.partitions = partitions;
    }

    void make(String topic) throws InterruptedException {
      if (!made.add(topic)) return;
      // The transaction topic's order is what it is for.
      int count = topic.endsWith(".transaction") ? 1 : partitions;
      try {
        admin.createTopics(Set.of(new NewTopic(topic, Optional.of(count), Optional.empty()))).all().get();
      } catch (ExecutionException e) {
        if (!(e.getCause() instanceof TopicExistsException)) throw new RuntimeException(e.getCause());
      }
    }
  }
}
